//go:build !linux

package node

import "time"

// Elsewhere than on Linux the figures of the machine are unknown: the alarms that
// need them stay silent, and the descriptor reserve is not kept.

func raiseDescriptors() uint64           { return 0 }
func machineMemory() uint64              { return 0 }
func machineMemoryUsed() uint64          { return 0 }
func processMemory() uint64              { return 0 }
func processorTimes() (busy, all uint64) { return 0, 0 }
func processTime() time.Duration         { return 0 }
