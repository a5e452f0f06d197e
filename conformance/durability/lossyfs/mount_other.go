//go:build !linux

package lossyfs

import "errors"

var errLinux = errors.New("only Linux mounts lossyfs")

// Available says why the file system cannot be mounted here.
func Available() error { return errLinux }

// Mount fails.
func (d *Disk) Mount(string) (unmount func() error, err error) { return nil, errLinux }
