package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/server/talk"
)

var (
	// namesOf finds what a query asks for: names of ours, of Go's and of the process's.
	namesOf = regexp.MustCompile(`\b(?:free2talk|go|process)_\w+`)
	// expressions are the queries of the alert rules: up to the next key.
	expressions = regexp.MustCompile(`(?s)expr: (.*?)\n +(?:for|labels):`)
	groupings   = regexp.MustCompile(`by \(([^)]*)\)`)
	matchers    = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"`)
)

// asked is what the dashboard and the alerts ask Prometheus, by where.
func asked(t *testing.T) map[string][]string {
	t.Helper()
	dashboard, err := os.ReadFile("../../deploy/grafana/free2talk.json")
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(dashboard, &parsed); err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, panel := range parsed.Panels {
		for _, target := range panel.Targets {
			all["the panel "+panel.Title] = append(all["the panel "+panel.Title], target.Expr)
		}
	}
	rules, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range expressions.FindAllStringSubmatch(string(rules), -1) {
		all["an alert"] = append(all["an alert"], found[1])
	}
	if len(all) < 20 || len(all["an alert"]) < 15 {
		t.Fatalf("%d panels, %d alerts: the files are not read rightly", len(all)-1, len(all["an alert"]))
	}
	return all
}

// busy is a node on which everything has happened that is counted.
func busy(t *testing.T) (*world, *process) {
	t.Helper()
	p := launch(t, nil, append(sharedFlags(t), "--rate-limits=api=1000/1m,auth=5/15m,strict=off,room_create=off,message=off")...).serving()
	w := worldOf(t, p)
	n := p.testNode
	_, ada := w.registered(n, "ada")
	room := openRoom(t, ada)
	w.eventually(15*time.Second, "the cache is used", func() bool {
		look(t, ada, 2, room, connect.Code(0))
		return strings.Contains(w.scrape(p), `free2talk_cache_load_seconds_count{cache="room"}`)
	})
	look(t, ada, 1, talk.NewID(), connect.CodeNotFound)
	w.fails(5, "AuthService.Login", `{"username":"ada","password":"wrong"}`, "BAD_CREDENTIALS")
	w.fails(1, "AuthService.Login", `{"username":"ada","password":"wrong"}`, "RATE_LIMITED")
	return w, p
}

// TestDashboardsAskForWhatThereIs: every metric and every label that the
// dashboard and the alerts name is one that a running server exports.
func TestDashboardsAskForWhatThereIs(t *testing.T) {
	w, p := busy(t)
	exported := map[string]map[string]bool{} // labels by name
	for series := range figuresOf(t, w.scrape(p)) {
		name, rest, _ := strings.Cut(series, "{")
		if exported[name] == nil {
			exported[name] = map[string]bool{"job": true, "instance": true} // Prometheus adds them
		}
		for _, l := range labels.FindAllStringSubmatch(rest, -1) {
			exported[name][l[1]] = true
		}
	}
	for where, all := range asked(t) {
		for _, query := range all {
			names := namesOf.FindAllString(query, -1)
			var known []string
			for _, name := range names {
				if exported[name] == nil {
					t.Errorf("%s asks for %s, which the server does not export", where, name)
				}
				for label := range exported[name] {
					known = append(known, label)
				}
			}
			for _, label := range labelsIn(query) {
				if len(names) > 0 && !slices.Contains(known, label) {
					t.Errorf("%s asks for the label %s, which none of %v has", where, label, names)
				}
			}
		}
	}
}

// labelsIn are the labels that a query names.
func labelsIn(query string) (all []string) {
	for _, found := range matchers.FindAllStringSubmatch(query, -1) {
		all = append(all, found[1])
	}
	for _, found := range groupings.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(found[1], ",") {
			all = append(all, strings.TrimSpace(label))
		}
	}
	return all
}
