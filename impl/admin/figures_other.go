//go:build !unix

package admin

// maxFiles is the number of handles that a process may have where the system
// sets no limit of its own.
func maxFiles() int64 { return 1 << 24 }
