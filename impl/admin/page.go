package admin

import (
	"context"
	"math"
	"sync"
)

// DefaultMaxRows is how many rows one page holds at most when the configuration
// says nothing else. A larger size is echoed as asked and cut to it.
const DefaultMaxRows = 10000

// Window asks for one page of a list.
type Window struct {
	Page int64 // from 1; 0 and below mean 1
	Size int64 // rows a page, from 1
}

// Page is a part of a list in its fixed order.
type Page[T any] struct {
	Rows  []T
	Total int // rows in the whole list
	Pages int // pages of the size that was in effect; 0 for an empty list
}

// span is a window as offset and limit. The size in effect is never more than
// maxRows, and the offset follows it: consecutive pages of a size that is too
// large are smaller than asked, and still neither overlap nor miss rows.
func (w Window) span(maxRows int) (offset, limit int, err error) {
	if w.Size < 1 {
		return 0, 0, fail(BadPage, "page size must be 1 or more")
	}
	size := min(w.Size, int64(maxRows))
	before := max(w.Page, 1) - 1
	if before > math.MaxInt32/size { // past the end of any list
		return math.MaxInt32, int(size), nil
	}
	return int(before * size), int(size), nil
}

func pages(total, size int) int { return (total + size - 1) / size }

// lister asks one node for limit rows from offset in the node's own order, and
// for the length of its list. A limit of 0 asks for the length alone.
type lister[T any] func(ctx context.Context, n Node, offset, limit int) ([]T, int, error)

// paged makes one list of the lists of all nodes, in the order of nodes: it
// asks every node for its length at the same time, and the ones that the page
// falls on for their rows.
func paged[T any](ctx context.Context, nodes []Node, w Window, maxRows int, ask lister[T]) (Page[T], error) {
	offset, limit, err := w.span(maxRows)
	if err != nil {
		return Page[T]{}, err
	}
	if len(nodes) == 1 {
		rows, total, err := ask(ctx, nodes[0], offset, limit)
		return Page[T]{Rows: rows, Total: total, Pages: pages(total, limit)}, err
	}
	totals, err := gather(ctx, nodes, func(ctx context.Context, n Node) (int, error) {
		_, total, err := ask(ctx, n, 0, 0)
		return total, err
	})
	if err != nil {
		return Page[T]{}, err
	}
	var p Page[T]
	for i, n := range nodes {
		p.Total += totals[i]
		if offset >= totals[i] || len(p.Rows) == limit {
			offset = max(offset-totals[i], 0)
			continue
		}
		rows, _, err := ask(ctx, n, offset, limit-len(p.Rows))
		if err != nil {
			return Page[T]{}, err
		}
		p.Rows = append(p.Rows, rows...)
		offset = 0
	}
	p.Pages = pages(p.Total, limit)
	return p, nil
}

// gather asks all nodes the same at the same time and returns the answers in
// the order of nodes, or the first error in that order.
func gather[T any](ctx context.Context, nodes []Node, ask func(context.Context, Node) (T, error)) ([]T, error) {
	answers := make([]T, len(nodes))
	errs := make([]error, len(nodes))
	if len(nodes) == 1 {
		answers[0], errs[0] = ask(ctx, nodes[0])
		return answers, errs[0]
	}
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { answers[i], errs[i] = ask(ctx, n) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// concat is gather for answers that are lists.
func concat[T any](ctx context.Context, nodes []Node, ask func(context.Context, Node) ([]T, error)) ([]T, error) {
	lists, err := gather(ctx, nodes, ask)
	if err != nil {
		return nil, err
	}
	var all []T
	for _, l := range lists {
		all = append(all, l...)
	}
	return all, nil
}
