package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// json reports whether the output is for a program.
func (a *app) json() bool { return a.Output == "json" }

// say writes a result for people.
func (a *app) say(format string, args ...any) error {
	_, err := fmt.Fprintf(a.out, format, args...)
	return err
}

// notef writes a line that is no result: a diagnosis, a question.
func (a *app) notef(format string, args ...any) {
	fmt.Fprintf(a.log, "f2t: %s\n", clean(fmt.Sprintf(format, args...)))
}

// done tells people that it was done; programs have the exit code.
func (a *app) done(format string, args ...any) error {
	if a.json() {
		return nil
	}
	return a.say("%s\n", clean(fmt.Sprintf(format, args...)))
}

// print writes one message as JSON, or calls people to show it to people.
func (a *app) print(message proto.Message, people func() error) error {
	if !a.json() {
		return people()
	}
	text, err := encode(message, "  ")
	if err != nil {
		return err
	}
	return a.say("%s\n", text)
}

// line writes one message as one line of JSON: of a watch.
func (a *app) line(message proto.Message) error {
	text, err := encode(message, "")
	if err != nil {
		return err
	}
	return a.say("%s\n", text)
}

// list writes messages as one JSON array, or calls people.
func list[M proto.Message](a *app, messages []M, people func() error) error {
	if !a.json() {
		return people()
	}
	parts := make([]json.RawMessage, len(messages))
	for i, message := range messages {
		text, err := encode(message, "")
		if err != nil {
			return err
		}
		parts[i] = text
	}
	text, err := json.MarshalIndent(parts, "", "  ")
	if err != nil {
		return err
	}
	return a.say("%s\n", text)
}

// encode is protobuf's JSON with the fields that are zero, spelled always the
// same: the library varies its spaces, so that nobody compares them.
func encode(message proto.Message, indent string) ([]byte, error) {
	raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if indent == "" {
		err = json.Compact(&b, raw)
	} else {
		err = json.Indent(&b, raw, "", indent)
	}
	return b.Bytes(), err
}

// grid is a table for people.
type grid struct {
	a       *app
	table   table.Writer
	numbers []int // columns of numbers, from 1
	rows    int
}

// grid begins a table. A column whose name begins with > holds numbers.
func (a *app) grid(columns ...string) *grid {
	g := &grid{a: a, table: table.NewWriter()}
	header := make(table.Row, len(columns))
	for i, name := range columns {
		name, number := strings.CutPrefix(name, ">")
		if number {
			g.numbers = append(g.numbers, i+1)
		}
		header[i] = name
	}
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.HeaderAlign = text.AlignDefault
	if a.color {
		style.Color.Header = text.Colors{text.Bold}
	}
	g.table.SetStyle(style)
	g.table.SuppressTrailingSpaces()
	if a.terminal {
		style := g.table.Style()
		style.Size.WidthMax = a.width()
	}
	g.table.AppendHeader(header)
	return g
}

// row adds a row. Text of others is shown without what would steer a terminal.
func (g *grid) row(cells ...any) {
	row := make(table.Row, len(cells))
	for i, cell := range cells {
		row[i] = clean(fmt.Sprint(cell))
	}
	g.table.AppendRow(row)
	g.rows++
}

// print writes the table; where it is empty, what that means.
func (g *grid) print(empty string) error {
	if g.rows == 0 {
		return g.a.say("%s\n", empty)
	}
	var columns []table.ColumnConfig
	for _, n := range g.numbers {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	g.table.SetColumnConfigs(columns)
	return g.a.say("%s\n", g.table.Render())
}

// pair is one fact about something.
type pair struct {
	name  string
	value any
}

// facts shows what is known of one thing, without what is not.
func (a *app) facts(pairs ...pair) error {
	widest := 0
	for _, p := range pairs {
		widest = max(widest, len(p.name))
	}
	for _, p := range pairs {
		value := clean(fmt.Sprint(p.value))
		if value == "" {
			continue
		}
		if err := a.say("%s  %s\n", a.bold(fmt.Sprintf("%-*s", widest, p.name)), value); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) bold(s string) string { return a.paint(s, text.Bold) }
func (a *app) dim(s string) string  { return a.paint(s, text.Faint) }

func (a *app) paint(s string, colors ...text.Color) string {
	if !a.color {
		return s
	}
	text.EnableColors()
	return text.Colors(colors).Sprint(s)
}

// Of what is no terminal.
const (
	usualWidth  = 80
	usualHeight = 24
)

// size is how many columns and lines the terminal has.
func (a *app) size() (width, height int) {
	if fd, ok := descriptor(a.out); ok {
		if width, height, err := term.GetSize(fd); err == nil && width > 0 && height > 0 {
			return width, height
		}
	}
	return usualWidth, usualHeight
}

// width is how many columns there are.
func (a *app) width() int {
	if a.wide > 0 {
		return a.wide
	}
	width, _ := a.size()
	return width
}

// clean takes out what would steer a terminal, or show text in another order
// than it has: names and topics are other people's.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r), r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069', r == '\u200e', r == '\u200f':
			return -1
		}
		return r
	}, s)
}

// ago is when something was, for people.
func ago(at *timestamppb.Timestamp) string {
	if at == nil {
		return ""
	}
	return humanize.Time(at.AsTime())
}

// at is a time with its day, in the local zone.
func at(when *timestamppb.Timestamp) string {
	if when == nil {
		return ""
	}
	return when.AsTime().Local().Format(time.DateTime)
}

// named is an enum's value as people say it: ROOM_STATUS_OPEN is open.
func named(value fmt.Stringer, prefix string) string {
	name := strings.ToLower(strings.TrimPrefix(value.String(), prefix))
	if name == "unspecified" {
		return ""
	}
	return strings.ReplaceAll(name, "_", " ")
}

// examples is the end of a command's help.
func examples(lines ...string) string {
	return "Example:\n\n\t" + strings.Join(lines, "\n\t")
}

// value writes what is no message as JSON.
func (a *app) value(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return a.say("%s\n", text)
}

// sortedKeys are the keys of a map in order, so that the same is shown the same.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
