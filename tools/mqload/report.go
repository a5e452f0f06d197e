//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// runReport reads results and prints the medians of every scenario and broker.
func runReport(files []string, base string, markdown bool) error {
	var all []result
	read := func(r io.Reader) error {
		sc := bufio.NewScanner(r)
		for sc.Scan() {
			if !strings.HasPrefix(sc.Text(), "{") {
				continue
			}
			var res result
			if err := json.Unmarshal(sc.Bytes(), &res); err != nil {
				return err
			}
			all = append(all, res)
		}
		return sc.Err()
	}
	if len(files) == 0 {
		if err := read(os.Stdin); err != nil {
			return err
		}
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = read(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	printTable(os.Stdout, all, base, markdown)
	return nil
}

// summary is the medians of the runs of one broker in one scenario.
type summary struct {
	broker string
	runs   []result
}

func (s summary) median(get func(result) float64) float64 {
	var v []float64
	for _, r := range s.runs {
		if r.Error == "" {
			v = append(v, get(r))
		}
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// spread is the range of the runs relative to their median, in percent.
func (s summary) spread(get func(result) float64) float64 {
	lo, hi := 0.0, 0.0
	for i, r := range s.runs {
		if v := get(r); i == 0 {
			lo, hi = v, v
		} else {
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	if m := s.median(get); m > 0 {
		return 100 * (hi - lo) / m
	}
	return 0
}

func (s summary) faults() string {
	var out []string
	for _, r := range s.runs {
		if f := r.faults(); f != "" && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return strings.Join(out, "; ")
}

func getRate(r result) float64 { return r.Rate }
func getCPU(r result) float64  { return r.CPUus }

// columns of the table. A ratio is this broker's median over the base's.
var columns = []struct {
	head string
	cell func(s, base summary) string
}{
	{"broker", func(s, _ summary) string { return s.broker }},
	{"runs", func(s, _ summary) string { return fmt.Sprint(len(s.runs)) }},
	{"rate/s", func(s, _ summary) string { return num(s.median(getRate)) }},
	{"x", func(s, b summary) string { return ratio(s.median(getRate), b.median(getRate)) }},
	{"cpu us", func(s, _ summary) string { return num(s.median(getCPU)) }},
	{"x", func(s, b summary) string { return ratio(s.median(getCPU), b.median(getCPU)) }},
	{"±%", func(s, _ summary) string { return num(s.spread(getCPU) / 2) }},
	{"user us", func(s, _ summary) string { return num(s.median(func(r result) float64 { return r.CPUuserUs })) }},
	{"sys us", func(s, _ summary) string { return num(s.median(func(r result) float64 { return r.CPUsysUs })) }},
	{"cpu %", func(s, _ summary) string { return num(s.median(func(r result) float64 { return r.CPUpct })) }},
	{"gen us", func(s, _ summary) string { return num(s.median(func(r result) float64 { return r.GenCPUus })) }},
	{"gen %", func(s, _ summary) string { return num(s.median(func(r result) float64 { return r.GenCPUpct })) }},
	{"other %", func(s, _ summary) string { return num(s.median(func(r result) float64 { return r.OtherPct })) }},
	{"RSS MB", func(s, _ summary) string {
		return num(s.median(func(r result) float64 { return float64(r.RSSPeakKB) / 1024 }))
	}},
	{"p50 us", func(s, _ summary) string { return num(s.median(func(r result) float64 { return r.P50us })) }},
	{"p99 us", func(s, _ summary) string { return num(s.median(func(r result) float64 { return r.P99us })) }},
	{"p99.9 us", func(s, _ summary) string { return num(s.median(func(r result) float64 { return r.P999us })) }},
	{"setup", func(s, _ summary) string {
		return unit(s.median(func(r result) float64 { return r.SetupRate }), s.runs[0].SetupUnit)
	}},
	{"memory", func(s, _ summary) string {
		return unit(s.median(func(r result) float64 { return r.BytesPer }), s.runs[0].BytesUnit)
	}},
	{"faults", func(s, _ summary) string { return s.faults() }},
}

// printTable prints one block for each scenario, leaving out empty columns.
func printTable(w io.Writer, all []result, base string, markdown bool) {
	var scenarios []string
	for _, r := range all {
		if !slices.Contains(scenarios, r.Scenario) {
			scenarios = append(scenarios, r.Scenario)
		}
	}
	for _, sc := range scenarios {
		var sums []summary
		for _, r := range all {
			if r.Scenario != sc {
				continue
			}
			i := slices.IndexFunc(sums, func(s summary) bool { return s.broker == r.Broker })
			if i < 0 {
				i, sums = len(sums), append(sums, summary{broker: r.Broker})
			}
			sums[i].runs = append(sums[i].runs, r)
		}
		b := sums[0]
		if i := slices.IndexFunc(sums, func(s summary) bool { return s.broker == base }); i >= 0 {
			b = sums[i]
		}
		rows := [][]string{{}}
		for range sums {
			rows = append(rows, nil)
		}
		for _, col := range columns {
			cells, empty := []string{col.head}, true
			for _, s := range sums {
				c := col.cell(s, b)
				empty = empty && c == ""
				cells = append(cells, c)
			}
			if empty || col.head == "x" && len(sums) == 1 {
				continue
			}
			for i := range rows {
				rows[i] = append(rows[i], cells[i])
			}
		}
		title(w, sc, markdown)
		printRows(w, rows, markdown)
	}
}

func title(w io.Writer, s string, markdown bool) {
	for _, p := range presets {
		if p.name == s {
			s += ": " + p.about
		}
	}
	if markdown {
		fmt.Fprintf(w, "\n### %s\n\n", s)
	} else {
		fmt.Fprintf(w, "\n%s\n", s)
	}
}

func printRows(w io.Writer, rows [][]string, markdown bool) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for n, row := range rows {
		var cells []string
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			if i == 0 || i == len(row)-1 {
				cells = append(cells, c+pad)
			} else {
				cells = append(cells, pad+c)
			}
		}
		if !markdown {
			fmt.Fprintln(w, strings.TrimRight("  "+strings.Join(cells, "  "), " "))
			continue
		}
		fmt.Fprintln(w, "| "+strings.Join(cells, " | ")+" |")
		if n == 0 {
			line := "|---|"
			for range len(row) - 1 {
				line += "--:|"
			}
			fmt.Fprintln(w, line)
		}
	}
}

// num prints three significant digits, and nothing for zero.
func num(v float64) string {
	switch {
	case v == 0:
		return ""
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func ratio(v, base float64) string {
	if v == 0 || base == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", v/base)
}

func unit(v float64, u string) string {
	if v == 0 || u == "" {
		return ""
	}
	return num(v) + " " + u
}
