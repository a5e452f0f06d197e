package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/lacewing-mqtt/lacewing/engine/store"
	"github.com/lacewing-mqtt/lacewing/node"
)

// failEnv is "point:count": at the count-th time that the store comes to the point, the process ends as kill -9 ends it.
const failEnv = "LACEWING_DURABILITY_FAIL"

// seams puts into o what the environment asks for.
func seams(o *node.Options) error {
	text := os.Getenv(failEnv)
	if text == "" {
		return nil
	}
	point, number, _ := strings.Cut(text, ":")
	count, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return fmt.Errorf("%s: %w", failEnv, err)
	}
	var passed atomic.Int64
	o.StoreOptions = func(s *store.Options) {
		s.FailPoint = func(name string) {
			if name == point && passed.Add(1) == count {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail
				select {}                                      // not a step further
			}
		}
	}
	return nil
}
