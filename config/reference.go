package config

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Reference prints the page that documents every key (docs/config.md).
func (t *Table) Reference(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	group := ""
	for _, k := range t.grouped() {
		if g := groupOf(k); g != group {
			group = g
			fmt.Fprintf(&b, "\n## %s\n\n| key | type | default | effect | what it does |\n|---|---|---|---|---|\n", group)
		}
		effect := "start"
		if k.Hot {
			effect = "at once"
		}
		doc := k.Doc
		if names := k.otherNames(); len(names) > 0 {
			doc += " Also: `" + strings.Join(names, "`, `") + "`."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Name, k.typeText(), k.defaultText(), effect, strings.ReplaceAll(doc, "|", `\|`))
	}
	_, err := w.Write(b.Bytes())
	if err != nil {
		return fmt.Errorf("write the reference: %w", err)
	}
	return nil
}

const referenceHead = `# Configuration

This page is printed from the table of keys by ` + "`lacewing config reference`" + `.

A file has lines of ` + "`key = value`" + `; a line that begins with ` + "`#`" + ` is a comment. The same key in the
environment is written in capitals, with ` + "`__`" + ` for a dot, after ` + "`LACEWING_`" + `: ` + "`LACEWING_LISTENER__TCP__EXTERNAL=0.0.0.0:1884`" + `.
On the command line it is ` + "`--set key=value`" + `. Values set through the APIs are replicated and survive a restart.

A higher layer wins: default, file, environment, flag, cluster (API), plugin configuration of the node (API), node (API).

Durations are written with units (` + "`500ms`, `30s`, `1h30m`, `7d`" + `), sizes with ` + "`KB`, `MB`, `GB`" + ` (powers of 1024), flags as
` + "`on`, `off`, `true`, `false`" + `, addresses as ` + "`off`" + `, a port, ` + "`host:port` or `[v6]:port`" + `. ` + "`$name`" + ` stands for any name, ` + "`$N`" + ` for a number from 1.
A text, list or address without a value (` + "`key =`" + `) takes back what a lower layer set. Keys marked *at once* take effect while the node runs,
the others at the next start.
`

// grouped returns the keys with those of a group together, in the order in
// which the groups appear first.
func (t *Table) grouped() []*Key {
	first := map[string]int{}
	for _, k := range t.keys {
		if _, seen := first[groupOf(k)]; !seen {
			first[groupOf(k)] = len(first)
		}
	}
	out := slices.Clone(t.keys)
	slices.SortStableFunc(out, func(a, b *Key) int { return cmp.Compare(first[groupOf(a)], first[groupOf(b)]) })
	return out
}

func groupOf(k *Key) string {
	if k.Plugin != "" {
		return "plugin " + k.Plugin
	}
	levels := strings.Split(k.Name, ".")
	switch first := levels[0]; {
	case first == "listener" && len(levels) > 1:
		return first + "." + levels[1]
	case len(levels) == 1 || first == "mqtt":
		return "mqtt"
	default:
		return first
	}
}

// otherNames are the aliases and v2 names of a key.
func (k *Key) otherNames() []string {
	names := slices.Clone(k.Aliases)
	for _, v := range k.V2 {
		if v.Key != k.Name && !slices.Contains(names, v.Key) {
			names = append(names, v.Key)
		}
	}
	return names
}

func (k *Key) typeText() string {
	text := string(k.Type)
	if len(k.Enum) > 0 {
		text += ": " + strings.Join(k.Enum, ", ")
	}
	num := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	switch {
	case k.Type != Integer && k.Type != Float:
	case k.Max > 0:
		text += ", " + num(k.Min) + " to " + num(k.Max)
	default:
		text += " from " + num(k.Min)
	}
	return text
}

func (k *Key) defaultText() string {
	code := func(s string) string { return "`" + strings.ReplaceAll(s, "|", `\|`) + "`" }
	var parts []string
	for _, n := range sortedKeys(k.Named) {
		parts = append(parts, n+": "+code(k.Named[n]))
	}
	switch {
	case k.Default != "" && len(parts) > 0:
		parts = append(parts, "others: "+code(k.Default))
	case k.Default != "":
		parts = append(parts, code(k.Default))
	case k.Inherit != "":
		parts = append(parts, "of "+code(k.Inherit))
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

// Example prints a configuration file with every key at its default,
// commented out.
func (t *Table) Example(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString("## Configuration of a Lacewing node. Every line shows a default; take the # away to change it.\n")
	group := ""
	for _, k := range t.grouped() {
		if g := groupOf(k); g != group {
			group = g
			fmt.Fprintf(&b, "\n##%s\n## %s\n##%s\n", strings.Repeat("-", 70), group, strings.Repeat("-", 70))
		}
		fmt.Fprintf(&b, "\n## %s\n## %s\n", k.Doc, k.typeText())
		if _, named := k.Named[k.For]; !named && (k.For != "" || len(k.Named) == 0) {
			name := k.Name
			if k.For != "" {
				name = instanceName(name, k.For)
			}
			fmt.Fprintf(&b, "# %s\n", strings.TrimRight(name+" = "+k.Default, " "))
		}
		for _, n := range sortedKeys(k.Named) {
			fmt.Fprintf(&b, "# %s = %s\n", instanceName(k.Name, n), k.Named[n])
		}
	}
	_, err := w.Write(b.Bytes())
	if err != nil {
		return fmt.Errorf("write the example: %w", err)
	}
	return nil
}
