package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/guptarohit/asciigraph"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
)

type analyticsCmd struct {
	Days int    `short:"d" default:"7" placeholder:"N" help:"How many days back (${default})."`
	By   string `enum:"hour,day,auto" default:"auto" predictor:"by" help:"A point an hour or a day. Unset: hours up to a week, days beyond."`
}

// Help shows how it is used.
func (analyticsCmd) Help() string {
	return "The server keeps thirteen months.\n\n" + examples("f2t analytics", "f2t analytics --days 90", "f2t analytics --days 1 -o json")
}

const (
	day         = 24 * time.Hour
	hoursUpTo   = 7 // days
	mostDays    = 400
	plotHeight  = 6
	plotMargin  = 12 // columns beside the plot: the numbers of its axis
	plotNarrow  = 20
	plotWide    = 120
	barWidth    = 30
	tickColumns = 14
)

// Run plots.
func (p analyticsCmd) Run(ctx context.Context, a *app) error {
	if p.Days < 1 || p.Days > mostDays {
		return failf(exitUsage, "--days is 1 to %d", mostDays)
	}
	admin, _, err := a.admin()
	if err != nil {
		return err
	}
	interval, asked := day, adminv1.Interval_INTERVAL_DAY
	if p.By == "hour" || p.By == "auto" && p.Days <= hoursUpTo {
		interval, asked = time.Hour, adminv1.Interval_INTERVAL_HOUR
	}
	to := time.Now().UTC().Truncate(interval).Add(interval)
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	reply, err := admin.GetAnalytics(ctx, &adminv1.GetAnalyticsRequest{
		From: timestamppb.New(to.Add(-time.Duration(p.Days) * day)), To: timestamppb.New(to), Interval: asked,
	})
	if err != nil {
		return err
	}
	return a.print(reply, func() error { return a.showAnalytics(reply, interval) })
}

// curves are what is plotted, in this order.
var curves = []struct {
	name  string
	sums  bool // the sum over all points says something; else the highest does
	value func(*adminv1.AnalyticsPoint) float64
}{
	{"people there", false, func(p *adminv1.AnalyticsPoint) float64 { return float64(p.GetActiveUsers()) }},
	{"most online at once", false, func(p *adminv1.AnalyticsPoint) float64 { return float64(p.GetPeakOnline()) }},
	{"people who sat down", true, func(p *adminv1.AnalyticsPoint) float64 { return float64(p.GetJoins()) }},
	{"rooms opened", true, func(p *adminv1.AnalyticsPoint) float64 { return float64(p.GetRoomsCreated()) }},
	{"minutes together", true, (*adminv1.AnalyticsPoint).GetMinutesTogether},
}

func (a *app) showAnalytics(r *adminv1.GetAnalyticsResponse, interval time.Duration) error {
	points := r.GetPoints()
	if len(points) == 0 {
		return a.say("Nothing was gathered in that time.\n")
	}
	unit := map[time.Duration]string{time.Hour: "hour by hour", day: "day by day"}[interval]
	for _, curve := range curves {
		values, total, top := make([]float64, len(points)), 0.0, 0.0
		for i, p := range points {
			n := curve.value(p)
			values[i], total, top = n, total+n, max(top, n)
		}
		summary := "at most " + number(int64(top))
		if curve.sums {
			summary = number(int64(total)) + " in all, " + summary
		}
		if err := a.say("%s %s\n%s\n\n", a.bold(curve.name), a.dim("· "+unit+" · "+summary), a.plot(values, points, interval)); err != nil {
			return err
		}
	}
	return a.showTops(r)
}

// plot draws one curve with its times below.
func (a *app) plot(values []float64, points []*adminv1.AnalyticsPoint, interval time.Duration) string {
	first := points[0].GetTime().AsTime()
	end := first.Add(time.Duration(len(points)) * interval)
	layout := "Jan 2"
	if interval < day {
		layout = "Mon 15:04"
	}
	width := min(plotWide, max(plotNarrow, a.width()-plotMargin))
	options := []asciigraph.Option{
		asciigraph.Height(plotHeight), asciigraph.Width(width), asciigraph.LowerBound(0), asciigraph.Precision(0),
		asciigraph.AxisColor(a.axis()), asciigraph.LabelColor(a.axis()), asciigraph.SeriesColors(a.series()),
	}
	switch most := slices.Max(values); {
	case most < plotHeight: // each row of the axis has a number of its own
		options = append(options, asciigraph.UpperBound(plotHeight))
	case flat(values): // otherwise the axis has no length
		options = append(options, asciigraph.UpperBound(most))
	}
	options = append(options, asciigraph.XAxisRange(float64(first.Unix()), float64(end.Unix())),
		asciigraph.XAxisTickCount(ticks(len(points), width)),
		asciigraph.XAxisValueFormatter(func(v float64) string { return time.Unix(int64(v), 0).Local().Format(layout) }))
	if len(values) == 1 {
		values = append(values, values[0])
	}
	return asciigraph.Plot(values, options...)
}

// ticks is how many times stand below a plot: as many as fit, and each at the
// beginning of an interval.
func ticks(points, width int) int {
	for parts := width / tickColumns; parts > 1; parts-- {
		if points%parts == 0 {
			return parts + 1
		}
	}
	return 2
}

func flat(values []float64) bool {
	for _, v := range values {
		if v != values[0] {
			return false
		}
	}
	return true
}

// axis and series are the colours of a plot, where there are any.
func (a *app) axis() asciigraph.AnsiColor { return a.plotColor(asciigraph.Gray) }

func (a *app) series() asciigraph.AnsiColor { return a.plotColor(asciigraph.Green) }

func (a *app) plotColor(c asciigraph.AnsiColor) asciigraph.AnsiColor {
	if !a.color {
		return asciigraph.Default
	}
	return c
}

// showTops shows what was used most, as bars, and what is missing.
func (a *app) showTops(r *adminv1.GetAnalyticsResponse) error {
	var rooms, languages []used
	for _, l := range r.GetTopLanguages() {
		languages = append(languages, used{l.GetLanguage(), l.GetJoins(), l.GetMinutesTogether()})
	}
	for _, room := range r.GetTopRooms() {
		rooms = append(rooms, used{room.GetName(), room.GetJoins(), room.GetMinutesTogether()})
	}
	if err := a.bars("language", languages); err != nil {
		return err
	}
	if err := a.bars("room", rooms); err != nil {
		return err
	}
	partial := 0
	for _, p := range r.GetPoints() {
		if p.GetPartial() {
			partial++
		}
	}
	if partial == 0 {
		return nil
	}
	return a.say("%s\n", a.dim(fmt.Sprintf("Of %d of %d points not all is known, since Redis lost some or nobody gathered it: they are too low.", partial, len(r.GetPoints()))))
}

// used is how much something was.
type used struct {
	name    string
	joins   int32
	minutes float64
}

func (a *app) bars(what string, all []used) error {
	if len(all) == 0 {
		return nil
	}
	most := 1.0
	for _, u := range all {
		most = max(most, u.minutes)
	}
	g := a.grid(what, ">joined", ">minutes together", "")
	for _, u := range all {
		g.row(u.name, number(u.joins), number(int64(u.minutes)), strings.Repeat("█", max(1, int(u.minutes*barWidth/most))))
	}
	return errorsAfter(g.print(""), func() error { return a.say("\n") })
}

// errorsAfter goes on where nothing failed.
func errorsAfter(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// percent is a share for people.
func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }
