package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// limitKey says whose calls a policy counts together.
type limitKey int

const (
	perCaller  limitKey = iota // per user, or per address where the call is anonymous
	perUser                    // per user; an anonymous call is not counted, as it will be refused
	perAddress                 // per address, IPv6 by /64
)

// limitTable is every rate-limit policy with the original's numbers, in the
// order in which a call meets them: the cheapest to refuse first, and last the
// one whose place stays pending while the call runs.
var limitTable = []struct {
	talk.Limit

	per limitKey
}{
	{talk.Limit{Policy: "api", Places: 100, Window: 15 * time.Minute}, perCaller},
	{talk.Limit{Policy: "strict", Places: 3, Window: time.Hour}, perAddress},
	{talk.Limit{Policy: "room_create", Places: 10, Window: time.Hour}, perUser},
	{talk.Limit{Policy: "message", Places: 20, Window: 10 * time.Second}, perUser},
	{talk.Limit{Policy: "auth", Places: 5, Window: 15 * time.Minute, Failures: true}, perAddress},
}

// Bounds of a configured limit: a log of reservations holds one entry a place.
const (
	placesMost = 100_000
	windowMost = 24 * time.Hour
)

// Limits are rate limits by the name of their policy. A policy that is not
// there limits nothing.
type Limits map[string]talk.Limit

// DefaultLimits returns the limits that hold where nothing else is said.
func DefaultLimits() Limits {
	limits := make(Limits, len(limitTable))
	for _, row := range limitTable {
		limits[row.Policy] = row.Limit
	}
	return limits
}

// ParseLimits reads changes of the default limits, such as
// "api=600/1m,auth=off". It names all faults at once.
func ParseLimits(s string) (Limits, error) {
	limits := DefaultLimits()
	var faults []error
	said := map[string]bool{}
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		if err := limits.change(item, said); err != nil {
			faults = append(faults, err)
		}
	}
	return limits, errors.Join(faults...)
}

func (l Limits) change(item string, said map[string]bool) error {
	name, value, ok := strings.Cut(item, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	switch {
	case !ok:
		return fmt.Errorf("rate limit %q: want policy=places/window or policy=off", item)
	case !known(name):
		return fmt.Errorf("rate limit %q: no such policy, there are %s", item, strings.Join(PolicyNames(), ", "))
	case said[name]:
		return fmt.Errorf("rate limit %q: %s is said twice", item, name)
	}
	said[name] = true
	if value == "off" {
		delete(l, name)
		return nil
	}
	limit := l[name]
	var err error
	if limit.Places, limit.Window, err = parseLimit(value); err != nil {
		return fmt.Errorf("rate limit %q: %w", item, err)
	}
	l[name] = limit
	return nil
}

func parseLimit(value string) (places int, window time.Duration, err error) {
	left, right, ok := strings.Cut(value, "/")
	if !ok {
		return 0, 0, errors.New("want places/window, such as 600/1m, or off")
	}
	places, err = strconv.Atoi(strings.TrimSpace(left))
	if err != nil || places < 1 || places > placesMost {
		return 0, 0, fmt.Errorf("places are a number from 1 to %d", placesMost)
	}
	window, err = time.ParseDuration(strings.TrimSpace(right))
	if err != nil || window < time.Second || window > windowMost || window%time.Second != 0 {
		return 0, 0, fmt.Errorf("the window is whole seconds from 1s to %s", windowMost)
	}
	return places, window, nil
}

// String writes the limits as [ParseLimits] reads them, in the table's order.
func (l Limits) String() string {
	var b strings.Builder
	for _, row := range limitTable {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		limit, on := l[row.Policy]
		if !on {
			b.WriteString(row.Policy + "=off")
			continue
		}
		fmt.Fprintf(&b, "%s=%d/%s", row.Policy, limit.Places, limit.Window)
	}
	return b.String()
}

// check refuses limits whose names no RPC can have.
func (l Limits) check() error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(l)) {
		if !known(name) || l[name].Policy != name || l[name].Places < 1 || l[name].Window < time.Second {
			faults = append(faults, fmt.Errorf("rate limit %q is not one", name))
		}
	}
	return errors.Join(faults...)
}

func known(policy string) bool { return slices.Contains(PolicyNames(), policy) }

// PolicyNames are the names of all policies, in the order in which a call meets
// their limits.
func PolicyNames() []string {
	names := make([]string, len(limitTable))
	for i, row := range limitTable {
		names[i] = row.Policy
	}
	return names
}
