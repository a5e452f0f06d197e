package admin

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Undefined is how both APIs write a value that is absent.
const Undefined = "undefined"

// OrUndefined returns s, or the word for an absent value when s is empty.
func OrUndefined(s string) string {
	if s == "" {
		return Undefined
	}
	return s
}

// FormatTime writes t as both APIs do: local time, zero-padded.
func FormatTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// FormatUptime writes d with its largest unit first and the smaller ones kept
// even when they are zero. Units are always plural, and there is no blank after
// the comma that follows the days: both are what old clients parse.
func FormatUptime(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	text := strconv.FormatInt(s%60, 10) + " seconds"
	if s >= 60 {
		text = strconv.FormatInt(s/60%60, 10) + " minutes, " + text
	}
	if s >= 3600 {
		text = strconv.FormatInt(s/3600%24, 10) + " hours, " + text
	}
	if s >= 86400 {
		text = strconv.FormatInt(s/86400, 10) + " days," + text
	}
	return text
}

// FormatBytes writes n with two decimals and the letter of the largest power of
// 1024 that it is above; exporters parse this.
func FormatBytes(n int64) string {
	switch {
	case n > 1<<30:
		return fmt.Sprintf("%.2fG", float64(n)/(1<<30))
	case n > 1<<20:
		return fmt.Sprintf("%.2fM", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2fK", float64(n)/(1<<10))
}

// FormatLoad writes a load average with two decimals.
func FormatLoad(l float64) string { return strconv.FormatFloat(l, 'f', 2, 64) }

// SplitTopics takes the comma-separated form of several topics apart.
func SplitTopics(list string) []string { return strings.Split(list, ",") }
