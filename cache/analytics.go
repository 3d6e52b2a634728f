package cache

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

var _ talk.Tallies = (*Tallies)(nil)

// talliesTTL is how long an hour waits to be written down.
const talliesTTL = 3 * 24 * time.Hour

var errTallies = errors.New("a tally in redis cannot be read")

// Tallies keeps what happened in hours that are not written down yet. All of it
// is in one slot, so that a batch is added whole or not at all.
type Tallies struct{ redis *Redis }

// NewTallies returns the tallies that r holds.
func NewTallies(r *Redis) *Tallies { return &Tallies{redis: r} }

type hourJSON struct {
	Hour      string             `json:"hour"`
	Day       string             `json:"day"`
	Online    int                `json:"online"`
	Partial   bool               `json:"partial"`
	Sums      map[string]int64   `json:"sums"`
	Users     []string           `json:"users"`
	Rooms     map[string]useJSON `json:"rooms"`
	Languages map[string]useJSON `json:"languages"`
}

type useJSON struct {
	Joins    int   `json:"joins"`
	Together int64 `json:"together"` // ms
}

func useOf(u *talk.Use) useJSON { return useJSON{u.Joins, u.Together.Milliseconds()} }

// unix is a time as keys have it.
func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func dayOf(t time.Time) string { return unix(t.UTC().Truncate(24 * time.Hour)) }

func spelled(start time.Time, h *talk.HourTally) hourJSON {
	j := hourJSON{
		Hour: unix(start), Day: dayOf(start), Online: h.Online, Partial: h.Partial, Users: []string{},
		Rooms: map[string]useJSON{}, Languages: map[string]useJSON{},
	}
	sum := talk.Use{}
	for id, use := range h.Rooms {
		j.Rooms[string(id)] = useOf(use)
		sum.Joins += use.Joins
		sum.Together += use.Together
	}
	for name, use := range h.Languages {
		j.Languages[name] = useOf(use)
	}
	for id := range h.Users {
		j.Users = append(j.Users, string(id))
	}
	j.Sums = map[string]int64{"joins": int64(sum.Joins), "together": sum.Together.Milliseconds(), "created": int64(h.RoomsCreated)}
	return j
}

// do makes a call. It is unhurried: gathering is done behind all requests, and an
// administrator who looks would rather wait than see half of it.
func (t *Tallies) do(ctx context.Context, c *call) error {
	if err := t.redis.cache.do(unhurried(ctx), c); err != nil {
		return err
	}
	return c.err()
}

// Place is up to where events were added.
func (t *Tallies) Place(ctx context.Context) (string, error) {
	c := command("get", t.redis.keys.analytics()+":place")
	if err := t.redis.cache.do(unhurried(ctx), c); err != nil {
		return "", err
	}
	if c.reply.Val() == nil {
		return "", nil
	}
	return c.reply.Text()
}

// Add adds a tally, where its From is the place.
func (t *Tallies) Add(ctx context.Context, tally talk.Tally) (bool, error) {
	hours := []hourJSON{}
	for start, h := range tally.Hours {
		hours = append(hours, spelled(start, h))
	}
	text, err := json.Marshal(hours)
	if err != nil {
		return false, err
	}
	c := scriptTally.run(t.redis.keys.analytics(), tally.From, tally.To, talliesTTL.Milliseconds(), string(text))
	if err := t.do(ctx, c); err != nil {
		return false, err
	}
	n, err := c.reply.Int64()
	return n == 1, err
}

// Hours are the hours that are not written down, in order.
func (t *Tallies) Hours(ctx context.Context) ([]time.Time, error) {
	c := command("smembers", t.redis.keys.analytics()+":hours")
	if err := t.do(ctx, c); err != nil {
		return nil, err
	}
	names, err := c.reply.StringSlice()
	if err != nil {
		return nil, err
	}
	var hours []time.Time
	for _, name := range names {
		if n, err := strconv.ParseInt(name, 10, 64); err == nil {
			hours = append(hours, time.Unix(n, 0).UTC())
		}
	}
	slices.SortFunc(hours, time.Time.Compare)
	return hours, nil
}

// Hour is what is known of one.
func (t *Tallies) Hour(ctx context.Context, start time.Time) (talk.Usage, error) {
	c := scriptHour.run(t.redis.keys.analytics(), unix(start), talk.TopUses)
	if err := t.do(ctx, c); err != nil {
		return talk.Usage{}, err
	}
	reply, err := c.reply.StringSlice()
	if err != nil {
		return talk.Usage{}, err
	}
	end := slices.Index(reply, "")
	if end < hourSums || (end-hourSums)%2 != 0 || (len(reply)-end-1)%3 != 0 {
		return talk.Usage{}, errTallies
	}
	return parseHour(start, reply[:hourSums], reply[hourSums:end], reply[end+1:]), nil
}

const hourSums = 6

func parseHour(start time.Time, sums, languages, rooms []string) talk.Usage {
	u := talk.Usage{
		Start: start, PeakOnline: figure(sums[0]), ActiveUsers: figure(sums[1]), RoomsCreated: figure(sums[3]), Partial: sums[5] != "0",
	}
	u.Joins, u.Together = figure(sums[2]), millis(sums[4])
	uses := map[string]*talk.Use{}
	for i := 0; i < len(languages); i += 2 {
		what, name, _ := strings.Cut(languages[i], ":")
		if uses[name] == nil {
			uses[name] = &talk.Use{}
		}
		if what == "joins" {
			uses[name].Joins = figure(languages[i+1])
		} else {
			uses[name].Together = millis(languages[i+1])
		}
	}
	for name, use := range uses {
		u.Languages = append(u.Languages, talk.LanguageUse{Language: name, Use: *use})
	}
	for i := 0; i < len(rooms); i += 3 {
		u.Rooms = append(u.Rooms, talk.RoomUse{ID: talk.RoomID(rooms[i]), Use: talk.Use{Joins: figure(rooms[i+2]), Together: millis(rooms[i+1])}})
	}
	return u
}

// figure reads a number that a script wrote; what is none is none.
func figure(text string) int {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return int(n)
}

func millis(text string) time.Duration { return time.Duration(figure(text)) * time.Millisecond }

// ActiveOn is about how many were active on a day.
func (t *Tallies) ActiveOn(ctx context.Context, day time.Time) (int, error) {
	c := command("pfcount", t.redis.keys.analytics()+":day:"+dayOf(day))
	if err := t.do(ctx, c); err != nil {
		return 0, err
	}
	return c.reply.Int()
}

// Drop forgets an hour.
func (t *Tallies) Drop(ctx context.Context, start time.Time) error {
	return t.do(ctx, scriptDrop.run(t.redis.keys.analytics(), unix(start)))
}
