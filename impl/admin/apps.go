package admin

import (
	"context"
	"errors"

	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// App is an application that may use the v3 API. Secret is empty in lists.
type App struct {
	ID, Name, Desc, Secret string
	Status                 bool
	Expired                int64 // Unix seconds, 0 for never
}

// AppChange replaces the properties of an application. A status that was not
// sent stays: a change of name must not let a locked application in again.
type AppChange struct {
	ID, Name, Desc string
	Status         *bool
	Expired        int64
}

// Apps returns the applications by id, without their secrets.
func (s *Service) Apps(context.Context) ([]App, error) {
	rows, _ := s.store.View().Applications(0, -1)
	return convert(rows, app), nil
}

// App returns one application with its secret; found is false when there is
// none.
func (s *Service) App(_ context.Context, id string) (a App, found bool, err error) {
	view := s.store.View()
	row, found := view.Application(id)
	if !found {
		return App{}, false, nil
	}
	a = app(row)
	a.Secret, err = view.Secret(row)
	return a, true, err
}

// CreateApp makes an application and returns its secret, generated unless a
// has one. BadParam for an empty id, AppExists.
func (s *Service) CreateApp(ctx context.Context, a App) (secret string, err error) {
	secret, err = s.store.CreateApplication(ctx, raftstore.Application{
		ID: a.ID, Name: a.Name, Desc: a.Desc, Status: a.Status, Expired: a.Expired,
	}, a.Secret)
	if errors.Is(err, raftstore.ErrExists) {
		return "", failOn(AppExists, a.ID, "application exists")
	}
	return secret, storeError(err)
}

// UpdateApp replaces the properties of an application. AppUnknown.
func (s *Service) UpdateApp(ctx context.Context, c AppChange) error {
	row, found := s.store.View().Application(c.ID)
	if !found {
		return failOn(AppUnknown, c.ID, "no such application")
	}
	if c.Status != nil {
		row.Status = *c.Status
	}
	err := s.store.UpdateApplication(ctx, raftstore.Application{
		ID: c.ID, Name: c.Name, Desc: c.Desc, Status: row.Status, Expired: c.Expired,
	})
	if errors.Is(err, raftstore.ErrNotFound) {
		return failOn(AppUnknown, c.ID, "no such application")
	}
	return storeError(err)
}

// DeleteApp deletes an application; one that is not there is success.
func (s *Service) DeleteApp(ctx context.Context, id string) error {
	err := s.store.DeleteApplication(ctx, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil
	}
	return storeError(err)
}

func app(a raftstore.Application) App {
	return App{ID: a.ID, Name: a.Name, Desc: a.Desc, Status: a.Status, Expired: a.Expired}
}
