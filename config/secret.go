package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Stars is what every secret prints as.
const Stars = "******"

// Secret is text that prints as stars, however it is printed. Reveal is the
// only way to the text.
type Secret string

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// String returns stars.
func (s Secret) String() string { return Stars }

// GoString returns stars.
func (s Secret) GoString() string { return Stars }

// Format prints stars for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, Stars) } // fmt has nowhere to report an error to

// LogValue returns stars.
func (s Secret) LogValue() slog.Value { return slog.StringValue(Stars) }

// MarshalText returns stars; encoding/json uses it too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Stars), nil }

var (
	_ fmt.Formatter  = Secret("")
	_ slog.LogValuer = Secret("")
)
