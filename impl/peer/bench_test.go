package peer_test

import (
	"fmt"
	"testing"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
	"github.com/lacewing-mqtt/lacewing/impl/peer"
)

// BenchmarkClusterPages asks for pages of 100 000 clients of three nodes, two of
// them over HTTP, and for the same pages of one node that has as many.
func BenchmarkClusterPages(b *testing.B) {
	const clients = 100_000
	table, err := config.NewTable(config.Core())
	if err != nil {
		b.Fatal(err)
	}
	cfg, err := config.Load(table, config.LoadOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var first *parts
	for _, size := range []int{1, 3} {
		var nodes []admin.Node
		for i := range size {
			p := newParts(b)
			var ids []string
			for c := range clients / size {
				ids = append(ids, fmt.Sprintf("client-%d-%07d", i, c))
			}
			p.connect(b, ids...)
			if i == 0 {
				first = p
				nodes = append(nodes, p.local)
				continue
			}
			nodes = append(nodes, peer.New(peer.Options{Name: fmt.Sprint(name, i), ID: "id", Client: p.serve(b)}))
		}
		s := admin.New(admin.Options{Local: first.local, Peers: func() []admin.Node { return nodes[1:] }, Config: func() *config.Config { return cfg }})
		for _, page := range []struct {
			name string
			admin.Window
		}{
			{"first20", admin.Window{Page: 1, Size: 20}}, {"middle20", admin.Window{Page: clients / 40, Size: 20}}, {"last20", admin.Window{Page: clients / 20, Size: 20}},
			{"border10000", admin.Window{Page: 4, Size: 10000}},
		} {
			b.Run(fmt.Sprintf("nodes=%d/%s", size, page.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p, err := s.Clients(b.Context(), "", page.Window)
					if err != nil || p.Total < clients-size || len(p.Rows) < int(page.Size)-size {
						b.Fatalf("%d rows of %d, %v", len(p.Rows), p.Total, err)
					}
				}
			})
		}
	}
}
