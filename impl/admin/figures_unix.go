//go:build unix

package admin

import "syscall"

// maxFiles is the limit of open descriptors of the process.
func maxFiles() int64 {
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) != nil {
		return 0
	}
	return int64(lim.Cur)
}
