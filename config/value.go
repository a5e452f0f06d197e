package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is a parsed value. Which numbers are meaningful depends on the type.
type value struct {
	raw   string // as written, blanks around it removed
	shown string // as the hot configuration shows it
	num   int64
	num2  int64
	frac  float64
	list  []string
}

func (v value) text() string { return v.shown }

// maxValue bounds a value in bytes.
const maxValue = 64 << 10

// emptyShown is what an unset value of a type is shown as.
func emptyShown(t Type) string {
	switch t {
	case Flag:
		return "false"
	case Integer, Duration, Bytesize:
		return "0"
	case Float, Percent:
		return "0.0000"
	default:
		return ""
	}
}

// mayBeEmpty reports whether "key =" is a value of the type.
func (t Type) mayBeEmpty() bool {
	switch t {
	case String, List, SecretT, Address, Access, Rate:
		return true
	}
	return false
}

// parse reads text as a value of the key. A duration without a unit is read
// in unit; 0 refuses it.
func parse(k *Key, text string, unit time.Duration) (value, error) {
	text = strings.TrimSpace(text)
	v := value{raw: text, shown: text}
	var err error
	if len(text) > maxValue {
		return value{}, fmt.Errorf("is longer than %d bytes", maxValue)
	}
	switch k.Type {
	case String, SecretT:
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			err = errors.New("holds a control character")
		}
	case Flag:
		switch strings.ToLower(text) {
		case "on", "true":
			v.num, v.shown = 1, "true"
		case "off", "false":
			v.shown = "false"
		default:
			err = errors.New("is not on, off, true or false")
		}
	case Integer:
		if v.num, err = strconv.ParseInt(text, 10, 64); err != nil {
			err = errors.New("is not a whole number")
		} else {
			v.shown = strconv.FormatInt(v.num, 10)
			err = k.within(float64(v.num), "")
		}
	case Float:
		if v.frac, err = strconv.ParseFloat(text, 64); err != nil || math.IsNaN(v.frac) || math.IsInf(v.frac, 0) {
			err = errors.New("is not a number")
		} else {
			v.shown = strconv.FormatFloat(v.frac, 'f', 4, 64)
			err = k.within(v.frac, "")
		}
	case Percent:
		v.frac, err = parsePercent(text)
		v.shown = strconv.FormatFloat(v.frac, 'f', 4, 64)
	case Duration:
		var d time.Duration
		if d, err = parseDuration(text, unit); err == nil {
			v.num = d.Milliseconds()
			v.shown = strconv.FormatInt(v.num, 10)
			err = k.within(float64(v.num), "ms")
		}
	case Bytesize:
		if v.num, err = parseBytes(text); err == nil {
			v.shown = strconv.FormatInt(v.num, 10)
			err = k.within(float64(v.num), " bytes")
		}
	case Enum:
		if !slices.Contains(k.Enum, text) {
			err = fmt.Errorf("is none of %s", strings.Join(k.Enum, ", "))
		}
	case Address:
		err = checkAddress(text)
	case List:
		v.list = splitList(text)
		v.shown = strings.Join(v.list, ",")
		for _, w := range v.list {
			if len(k.Enum) > 0 && !slices.Contains(k.Enum, w) {
				err = fmt.Errorf("holds %q, which is none of %s", w, strings.Join(k.Enum, ", "))
			}
		}
	case Rate:
		err = v.parsePair(text, ",", parseBytes)
		if err == nil && v.num2 == 0 {
			v.num2 = v.num
		}
	case Access:
		_, err = parseAccess(text)
	default:
		err = fmt.Errorf("has the unknown type %q", k.Type)
	}
	if err == nil && k.Check != nil {
		err = k.Check(text)
	}
	if err != nil {
		if k.Type == SecretT {
			text = Stars
		}
		if strings.Contains(text, " #") {
			err = fmt.Errorf("%w (a comment needs its own line)", err)
		}
		return value{}, fmt.Errorf("%q %w", text, err)
	}
	return v, nil
}

func (k *Key) within(n float64, unit string) error {
	switch num := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) + unit }; {
	case n < k.Min && k.Max > 0, k.Max > 0 && n > k.Max:
		return fmt.Errorf("is not between %s and %s", num(k.Min), num(k.Max))
	case n < k.Min:
		return fmt.Errorf("is below %s", num(k.Min))
	}
	return nil
}

func (v *value) parsePair(text, sep string, second func(string) (int64, error)) error {
	a, b, both := strings.Cut(text, sep)
	var err error
	if v.num, err = parseBytes(a); err == nil && both {
		v.num2, err = second(b)
	}
	if err != nil {
		return fmt.Errorf("is not a number, or two with %q between", sep)
	}
	v.shown = strconv.FormatInt(v.num, 10)
	if both {
		v.shown += sep + strconv.FormatInt(v.num2, 10)
	}
	return nil
}

func parsePercent(text string) (float64, error) {
	num, pct := strings.CutSuffix(text, "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	if pct {
		f /= 100
	}
	if err != nil || !(f >= 0 && f <= 1) {
		return 0, errors.New("is not between 0% and 100%")
	}
	return f, nil
}

var durationUnits = []struct {
	name string
	d    time.Duration
}{{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}, {"w", 7 * 24 * time.Hour}}

// maxDuration keeps sums of durations and times far from overflow.
const maxDuration = 100 * 365 * 24 * time.Hour

func parseDuration(text string, bare time.Duration) (time.Duration, error) {
	bad := errors.New("is not a duration such as 500ms, 30s or 1h30m")
	var sum time.Duration
	rest := strings.ToLower(strings.ReplaceAll(text, " ", ""))
	if rest == "" {
		return 0, bad
	}
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		number := rest
		if i >= 0 {
			number = rest[:i]
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, bad
		}
		unit := bare
		if i < 0 {
			switch {
			case n == 0 && sum == 0:
				return 0, nil
			case bare == 0 || sum != 0:
				return 0, errors.New("has no unit: 500ms, 30s, 1h30m")
			}
			rest = ""
		} else {
			rest = rest[i:]
			j := strings.IndexFunc(rest, func(r rune) bool { return r >= '0' && r <= '9' })
			if j < 0 {
				j = len(rest)
			}
			k := slices.IndexFunc(durationUnits, func(u struct {
				name string
				d    time.Duration
			}) bool {
				return u.name == rest[:j]
			})
			if k < 0 {
				return 0, bad
			}
			unit, rest = durationUnits[k].d, rest[j:]
		}
		if n > float64(maxDuration/unit) {
			return 0, errors.New("is longer than a hundred years")
		}
		if sum += time.Duration(n * float64(unit)); sum > maxDuration {
			return 0, errors.New("is longer than a hundred years")
		}
	}
	return sum, nil
}

func parseBytes(text string) (int64, error) {
	bad := errors.New("is not a size such as 512, 64KB or 1MB")
	s := strings.ToUpper(strings.TrimSpace(text))
	s = strings.TrimSuffix(s, "B")
	shift := 0
	if s != "" {
		if i := strings.IndexByte("KMGT", s[len(s)-1]); i >= 0 {
			shift, s = 10*(i+1), strings.TrimSpace(s[:len(s)-1])
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, bad
	}
	return n << shift, nil
}

// checkAddress accepts off, a port, host:port and [v6]:port. Port 0 lets the
// system choose one.
func checkAddress(text string) error {
	if text == "off" {
		return nil
	}
	host, port := "", text
	if strings.Contains(text, ":") {
		var err error
		if host, port, err = net.SplitHostPort(text); err != nil {
			return errors.New("is not off, a port, or an address with a port")
		}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("is not off, a port (0 to 65535), or an address with a port")
	}
	if strings.ContainsAny(host, " \t/") {
		return errors.New("holds an address that is none")
	}
	return nil
}

func splitList(text string) []string {
	var out []string
	for _, w := range strings.Split(text, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// AccessRule admits or refuses peers of a listener by their address.
type AccessRule struct {
	Allow bool
	Net   netip.Prefix // the zero Prefix means every address
}

// Match reports whether the rule speaks of the address.
func (r AccessRule) Match(a netip.Addr) bool {
	return !r.Net.IsValid() || r.Net.Contains(a.Unmap())
}

func parseAccess(text string) (AccessRule, error) {
	bad := errors.New("is not allow or deny, and all, an address or a CIDR range")
	verb, who, _ := strings.Cut(text, " ")
	who = strings.TrimSpace(who)
	r := AccessRule{Allow: verb == "allow"}
	if !r.Allow && verb != "deny" {
		return r, bad
	}
	if who == "all" {
		return r, nil
	}
	p, err := netip.ParsePrefix(who)
	if err != nil {
		a, aerr := netip.ParseAddr(who)
		if aerr != nil {
			return r, bad
		}
		a = a.Unmap()
		p = netip.PrefixFrom(a, a.BitLen())
	}
	r.Net = p.Masked()
	return r, nil
}
