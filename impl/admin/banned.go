package admin

import (
	"context"
	"errors"

	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// Ban keeps clients from connecting. As is client_id, username or ip_address;
// Until is in Unix seconds, 0 for ever.
type Ban struct {
	As, Who, Reason, By, Desc string
	Until                     int64
}

// Bans lists the bans in force, by as and who.
func (s *Service) Bans(_ context.Context, w Window) (Page[Ban], error) {
	offset, limit, err := w.span(s.maxRows())
	if err != nil {
		return Page[Ban]{}, err
	}
	rows, total := s.store.View().Bans(s.now(), offset, limit)
	return Page[Ban]{Rows: convert(rows, func(b raftstore.Ban) Ban { return Ban(b) }), Total: total, Pages: pages(total, limit)}, nil
}

// Ban adds a ban, or replaces the one of the same As and Who. BadParam.
func (s *Service) Ban(ctx context.Context, b Ban) error {
	return storeError(s.store.PutBan(ctx, raftstore.Ban(b)))
}

// Unban lifts a ban; one that is not there is success.
func (s *Service) Unban(ctx context.Context, as, who string) error {
	err := s.store.DeleteBan(ctx, as, who)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil
	}
	return storeError(err)
}
