package main

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/free2talk/free2talk/cache"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

// withTallies has nodes gather analytics that often.
func withTallies(every time.Duration) func(*Settings) {
	return func(s *Settings) { s.tallyEvery = every }
}

// gathered is what all points of a report say together.
func gathered(points []talk.Usage) (sum talk.Usage) {
	for _, p := range points {
		sum.Joins += p.Joins
		sum.RoomsCreated += p.RoomsCreated
		sum.Together += p.Together
		sum.ActiveUsers = max(sum.ActiveUsers, p.ActiveUsers)
		sum.PeakOnline = max(sum.PeakOnline, p.PeakOnline)
		sum.Partial = sum.Partial || p.Partial
	}
	return sum
}

// chronicler is a node's analytics, stepped by hand, with a clock that is moved.
type chronicler struct {
	*talk.Analytics
	t     *testing.T
	w     *world
	clock *talktest.Clock
}

func (w *world) chronicler(t *testing.T, n *testNode, clock *talktest.Clock) *chronicler {
	t.Helper()
	return &chronicler{t: t, w: w, clock: clock, Analytics: &talk.Analytics{
		History: n.store, Tallies: cache.NewTallies(n.redis), Chronicle: n.store, Mine: func() bool { return true },
		Rooms: n.lobby, Online: n.presence.Count, Clock: clock.Now, Log: n.log,
	}}
}

// step gathers once, later by d: again where Redis missed its time-outs, as a node does.
func (c *chronicler) step(d time.Duration) {
	c.t.Helper()
	c.clock.Add(d)
	c.w.eventually(10*time.Second, "what happened is gathered", func() bool { return c.answered(c.Step(c.t.Context())) })
}

// answered is whether Redis was there; no other error is expected.
func (c *chronicler) answered(err error) bool {
	c.t.Helper()
	if err != nil && strings.Contains(err.Error(), "redis is away") {
		return false
	}
	must(c.t, err)
	return true
}

// until steps, while the clock stands, until so many rooms were gathered in all
// hours that are not written down: an event is read once nothing that commits
// later can come before it.
func (c *chronicler) until(rooms int) {
	c.t.Helper()
	c.w.eventually(10*time.Second, "all that happened is gathered", func() bool {
		c.step(0)
		hours, err := c.Tallies.Hours(c.t.Context())
		if !c.answered(err) {
			return false
		}
		sum := 0
		for _, start := range hours {
			hour, err := c.Tallies.Hour(c.t.Context(), start)
			if !c.answered(err) {
				return false
			}
			sum += hour.RoomsCreated
		}
		return sum == rooms
	})
}

// settled is how many rooms were opened, of those that a step finds.
func (c *chronicler) settled() (rooms int) {
	c.t.Helper()
	events, err := c.History.EventsAfter(c.t.Context(), talk.Mark{}, 500)
	must(c.t, err)
	for _, e := range events {
		if _, created := e.Fact.(talk.RoomCreated); created && e.Settled {
			rooms++
		}
	}
	return rooms
}

// report is all of the last day, and of the next hours.
func (c *chronicler) report(interval time.Duration) talk.Report {
	c.t.Helper()
	now := c.clock.Now()
	r, err := c.Report(c.t.Context(), talk.ReportQuery{From: now.Add(-48 * time.Hour), To: now.Add(time.Hour), Interval: interval})
	must(c.t, err)
	return r
}

// What people do is told while the hour goes on, and by the calls of an
// administrator.
func TestAnalytics_of_the_open_hour(t *testing.T) {
	t.Parallel()
	for _, b := range []backend{onEmbedded, onPostgres, onCluster} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, b, 2, withTallies(50*time.Millisecond))
			w.redisUsed()
			_, service := w.admin(w.nodes[0])
			ask := func() *adminv1.GetAnalyticsResponse {
				reply, err := service.GetAnalytics(t.Context(), &adminv1.GetAnalyticsRequest{})
				must(t, err)
				return reply
			}
			w.eventually(20*time.Second, "gathering has begun", func() bool {
				for _, p := range ask().GetPoints() {
					if p.GetPartial() { // nobody knows of the minutes before
						return true
					}
				}
				return false
			})
			ada, bob := w.person(), w.person()
			room := w.room(ada, 4)
			defer w.online(bob, last(w))()
			join(t, w.as(last(w), bob), room.GetId())
			w.eventually(20*time.Second, "all is told", func() bool {
				var joins, rooms, active, peak int32
				var together float64
				for _, p := range ask().GetPoints() {
					joins, rooms, together = joins+p.GetJoins(), rooms+p.GetRoomsCreated(), together+p.GetMinutesTogether()
					active, peak = max(active, p.GetActiveUsers()), max(peak, p.GetPeakOnline())
				}
				return joins == 1 && rooms == 1 && active == 2 && peak == 1 && together > 0
			})
			reply := ask()
			if n := len(reply.GetPoints()); n < 168 || n > 170 || reply.GetInterval() != adminv1.Interval_INTERVAL_HOUR {
				t.Errorf("a week has %d points of %v", n, reply.GetInterval())
			}
			if top := reply.GetTopRooms(); len(top) != 1 || top[0].GetRoomId() != room.GetId() || top[0].GetName() != room.GetName() || top[0].GetJoins() != 1 {
				t.Errorf("top rooms: %v", top)
			}
			if top := reply.GetTopLanguages(); len(top) != 1 || top[0].GetLanguage() != room.GetLanguages()[0] || top[0].GetMinutesTogether() <= 0 {
				t.Errorf("top languages: %v", top)
			}
			_, err := service.GetAnalytics(t.Context(), &adminv1.GetAnalyticsRequest{
				To: timestamppb.New(time.Now().Add(20_000 * time.Hour)), From: timestamppb.New(time.Now()), Interval: adminv1.Interval_INTERVAL_HOUR,
			})
			if connect.CodeOf(err) != connect.CodeInvalidArgument {
				t.Errorf("too many points: %v", err)
			}
			_, err = service.GetAnalytics(t.Context(), &adminv1.GetAnalyticsRequest{From: timestamppb.New(time.Now().Add(time.Hour))})
			if connect.CodeOf(err) != connect.CodeInvalidArgument {
				t.Errorf("from after now: %v", err)
			}
			first := &timestamppb.Timestamp{Seconds: -62_135_596_800} // of what a Timestamp may be
			for _, absurd := range []*adminv1.GetAnalyticsRequest{
				{To: &timestamppb.Timestamp{Seconds: first.GetSeconds() + 1}},
				{From: first, To: &timestamppb.Timestamp{Seconds: first.GetSeconds() + 86_400}},
				{To: &timestamppb.Timestamp{Seconds: 1 << 62}},
				{From: &timestamppb.Timestamp{Seconds: -1 << 62}, To: &timestamppb.Timestamp{Seconds: 1 << 62}},
				{From: timestamppb.New(time.Now()), To: &timestamppb.Timestamp{Seconds: 253_402_300_799}, Interval: adminv1.Interval_INTERVAL_DAY},
			} {
				if _, err := service.GetAnalytics(t.Context(), absurd); connect.CodeOf(err) != connect.CodeInvalidArgument {
					t.Errorf("%v: %v", absurd, err)
				}
			}
		})
	}
}

// Hours that are over are written down once, whoever does it; a day knows how
// many different people there were; thirteen months later all is forgotten.
func TestAnalytics_hours_are_written_down(t *testing.T) {
	t.Parallel()
	for _, b := range []backend{onEmbedded, onPostgres} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, b, 2, withTallies(time.Hour))
			w.redisUsed()
			clock := talktest.NewClock()
			clock.Set(time.Now())
			one, other := w.chronicler(t, w.nodes[0], clock), w.chronicler(t, last(w), clock)
			one.step(0)
			ada, bob := w.person(), w.person()
			room := w.room(ada, 4).GetId()
			join(t, bob.Client, room)
			w.eventually(10*time.Second, "both nodes know", func() bool { return w.nodes[0].lobby.Size() == 1 && last(w).lobby.Size() == 1 })
			one.until(1)
			one.step(5 * time.Second)
			one.step(5 * time.Second)
			other.step(0) // takes over: nothing is counted twice
			before := gathered(one.report(time.Hour).Points)
			if before.Joins != 1 || before.RoomsCreated != 1 || before.ActiveUsers != 2 || before.Together < 2*5*time.Second {
				t.Errorf("gathered so far: %+v", before)
			}
			other.step(time.Hour + 2*time.Minute)
			one.step(0)
			hours, err := w.nodes[0].store.HoursBetween(t.Context(), clock.Now().Add(-72*time.Hour), clock.Now())
			must(t, err)
			if written := gathered(hours); written.Joins != 1 || written.RoomsCreated != 1 || !written.Partial {
				t.Errorf("written down: %+v", hours)
			}
			if day := gathered(other.report(24 * time.Hour).Points); day.ActiveUsers != 2 || day.Joins != 1 {
				t.Errorf("by the day: %+v", day)
			}
			one.step(talk.AnalyticsKept + 24*time.Hour)
			hours, err = w.nodes[0].store.HoursBetween(t.Context(), time.Now().Add(-72*time.Hour), time.Now().Add(time.Hour))
			if err != nil || len(hours) > 0 {
				t.Errorf("thirteen months later: %+v, %v", hours, err)
			}
		})
	}
}

// Redis lost: what was written down stays, the open hour says that it is not
// whole, and gathering goes on. Without Redis too the report is given.
func TestAnalytics_when_redis_is_lost(t *testing.T) {
	t.Parallel()
	own := testenv.StartRedis(t)
	w := newWorld(t, onOwnRedis(own), 1, withTallies(time.Hour))
	w.redisUsed()
	clock := talktest.NewClock()
	clock.Set(time.Now())
	c := w.chronicler(t, w.nodes[0], clock)
	c.step(0)
	ada := w.person()
	open := func() {
		t.Helper()
		room := w.room(ada, 4)
		_, err := ada.Rooms.CloseRoom(t.Context(), &free2talkv1.CloseRoomRequest{RoomId: room.GetId()})
		must(t, err)
	}
	open()
	c.until(1)
	c.step(time.Hour + 2*time.Minute) // the first hour, which is partial, is written down
	if got := gathered(c.report(time.Hour).Points); got.RoomsCreated != 1 {
		t.Errorf("written down: %+v", got)
	}
	must(t, askOf(t, own).FlushAll(t.Context()).Err())
	w.redisUsed()
	c.step(time.Second)
	open()
	open()
	// By the events' own clock, which has not moved, these are of the first hour, which is over by the other clock and
	// written down again each time: what is higher counts, so both are to be found at once.
	w.eventually(10*time.Second, "nothing that commits later can come before them", func() bool { return c.settled() == 3 })
	var points []talk.Usage
	w.eventually(10*time.Second, "gathering goes on", func() bool {
		c.step(0)
		points = c.report(time.Hour).Points
		return gathered(points).RoomsCreated == 2
	})
	current := clock.Now().UTC().Truncate(time.Hour)
	for _, p := range points {
		if p.Start.Equal(current) && !p.Partial {
			t.Errorf("the open hour does not say that it is not whole: %+v", p)
		}
	}
	own.Stop()
	w.eventually(10*time.Second, "the node knows it", func() bool { return !w.nodes[0].redis.Usable() })
	for _, p := range c.report(time.Hour).Points {
		if p.Start.Equal(current) && !p.Partial {
			t.Errorf("without Redis: %+v", p)
		}
	}
	own.Cont()
}
