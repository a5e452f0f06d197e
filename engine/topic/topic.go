// Package topic knows topic names and topic filters: what is valid, what matches, the prefixes with a meaning, and two
// indexes: Trie, from which all filters that match a name are found, and Names, from which all names that match a filter
// are found.
//
// Matching is on the bytes as they are: case counts, nothing is normalised [MQTT-4.7.3-4]. That text is UTF-8 is the
// codec's business. An empty level is a level like any other.
package topic

import "strings"

// MaxLength is the largest length of a name or filter, in bytes, that the protocol allows [MQTT-4.7.3-3]. Callers with a
// tighter limit check it themselves.
const MaxLength = 65_535

// text is a name or filter as it comes: in a packet as bytes, elsewhere as a string.
type text interface{ ~string | ~[]byte }

// ValidName reports whether s is a topic name: 1 to MaxLength bytes without wildcards and U+0000
// [MQTT-4.7.1-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2].
func ValidName[S text](s S) bool {
	if len(s) == 0 || len(s) > MaxLength {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == '+' || c == '#' || c == 0 {
			return false
		}
	}
	return true
}

// ValidFilter reports whether s is a topic filter: 1 to MaxLength bytes without U+0000, where # and + fill a whole level each and
// # is the last [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-1] [MQTT-4.7.3-2]. Filters with the prefix of a
// shared subscription have to go through ParseShare first.
func ValidFilter[S text](s S) bool {
	if len(s) == 0 || len(s) > MaxLength {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case 0:
			return false
		case '#':
			if i != len(s)-1 || i > 0 && s[i-1] != '/' {
				return false
			}
		case '+':
			if i > 0 && s[i-1] != '/' || i < len(s)-1 && s[i+1] != '/' {
				return false
			}
		}
	}
	return true
}

// HasWildcard reports whether s, a valid filter, has a wildcard.
func HasWildcard[S text](s S) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '+' || s[i] == '#' {
			return true
		}
	}
	return false
}

// Levels is the number of levels of s: one more than it has slashes.
func Levels[S text](s S) int {
	n := 1
	for i := 0; i < len(s); i++ {
		if s[i] == '/' {
			n++
		}
	}
	return n
}

// Match reports whether the valid filter matches the valid name. A filter that begins with a wildcard does not match a name
// that begins with $ [MQTT-4.7.2-1].
func Match[F, N text](filter F, name N) bool {
	if len(filter) > 0 && len(name) > 0 && name[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	i, j := 0, 0 // starts of a level in filter and name
	for {
		if i < len(filter) && filter[i] == '#' {
			return true
		}
		if i < len(filter) && filter[i] == '+' {
			i++
			for j < len(name) && name[j] != '/' {
				j++
			}
		} else {
			for i < len(filter) && filter[i] != '/' {
				if j == len(name) || name[j] != filter[i] {
					return false
				}
				i++
				j++
			}
			if j < len(name) && name[j] != '/' {
				return false
			}
		}
		if i == len(filter) {
			return j == len(name)
		}
		i++
		if j == len(name) { // the parent of # is matched by it as well
			return i == len(filter)-1 && filter[i] == '#'
		}
		j++
	}
}

// The prefixes that change the meaning of a filter or name.
const (
	SharePrefix = "$share/" // $share/group/filter: a shared subscription
	QueuePrefix = "$queue/" // $queue/filter: the same, with one nameless group (EMQ)
	LocalPrefix = "$local/" // a message or subscription that stays on this node (EMQ)
	SysPrefix   = "$SYS/"   // what the broker says about itself
)

// QueueGroup is the group that ParseShare gives for $queue filters. No $share group can have this name.
const QueueGroup = "$queue/"

// ParseShare takes the prefix of a shared subscription off s. shared tells whether s has one; if not, filter is s. ok is
// false if there is a prefix with a malformed group or an invalid filter behind it: a group is at least one character without
// slash and wildcards [MQTT-4.8.2-1] [MQTT-4.8.2-2]. For unshared s, ok is ValidFilter(s).
func ParseShare(s string) (group, filter string, shared, ok bool) {
	switch {
	case strings.HasPrefix(s, SharePrefix):
		rest := s[len(SharePrefix):]
		i := strings.IndexByte(rest, '/')
		if i <= 0 || strings.ContainsAny(rest[:i], "+#\x00") {
			return "", "", true, false
		}
		group, filter, shared = rest[:i], rest[i+1:], true
	case strings.HasPrefix(s, QueuePrefix):
		group, filter, shared = QueueGroup, s[len(QueuePrefix):], true
	default:
		filter = s
	}
	return group, filter, shared, ValidFilter(filter)
}

// CutLocal takes the prefix $local/ off s; local tells whether it was there.
func CutLocal[S text](s S) (rest S, local bool) {
	if len(s) >= len(LocalPrefix) && string(s[:len(LocalPrefix)]) == LocalPrefix {
		return s[len(LocalPrefix):], true
	}
	return s, false
}

// IsSys reports whether s begins with $SYS/ or is $SYS.
func IsSys[S text](s S) bool {
	return len(s) >= 4 && string(s[:4]) == "$SYS" && (len(s) == 4 || s[4] == '/')
}
