package admin

import (
	"context"
	"math"
	"slices"
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
// falls on for their rows. A node that goes away between the two is left out like
// one that was away before.
func paged[T any](ctx context.Context, s *Service, w Window, ask lister[T]) (Page[T], error) {
	offset, limit, err := w.span(s.maxRows())
	if err != nil {
		return Page[T]{}, err
	}
	nodes := s.nodes()
	if len(nodes) == 1 {
		rows, total, err := ask(ctx, nodes[0], offset, limit)
		return Page[T]{Rows: rows, Total: total, Pages: pages(total, limit)}, err
	}
	lengths, err := gather(ctx, s, nodes, answerWait, func(ctx context.Context, n Node) (int, error) {
		_, total, err := ask(ctx, n, 0, 0)
		return total, err
	})
	for err == nil {
		parts, total := cut(lengths, offset, limit)
		var holders []Node
		for _, p := range parts {
			holders = append(holders, p.node)
		}
		var rows []answered[[]T]
		rows, err = gather(ctx, s, holders, answerWait, func(ctx context.Context, n Node) ([]T, error) {
			at := slices.IndexFunc(parts, func(p part) bool { return p.node == n })
			rows, _, err := ask(ctx, n, parts[at].offset, parts[at].limit)
			return rows, err
		})
		if len(rows) < len(holders) {
			lengths = slices.DeleteFunc(lengths, func(l answered[int]) bool {
				asked := slices.Contains(holders, l.node)
				return asked && !slices.ContainsFunc(rows, func(r answered[[]T]) bool { return r.node == l.node })
			})
			continue
		}
		p := Page[T]{Total: total, Pages: pages(total, limit)}
		for _, r := range rows {
			p.Rows = append(p.Rows, r.Value...)
		}
		return p, err
	}
	return Page[T]{}, err
}

// part is what a page takes of the list of one node.
type part struct {
	node          Node
	offset, limit int
}

// cut finds what a page takes of each node, and the length of the whole list.
func cut(lengths []answered[int], offset, limit int) (parts []part, total int) {
	for _, l := range lengths {
		total += l.Value
		if n := min(l.Value-offset, limit); n > 0 {
			parts = append(parts, part{l.node, offset, n})
			limit -= n
		}
		offset = max(offset-l.Value, 0)
	}
	return parts, total
}
