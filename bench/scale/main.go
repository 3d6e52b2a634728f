package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/free2talk/free2talk/internal/testenv/service"
)

func main() {
	people := flag.Int("people", 1896, "how many people go online: fewer than may have streams from one address, and full rooms of them")
	out := flag.String("o", "", "the page that is written; unset: it is printed")
	flag.Parse()
	*people -= *people % seats
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *people, *out); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be done
	}
}

// run starts what is measured, measures it, and writes the page.
func run(ctx context.Context, people int, out string) (err error) {
	postgres, err := service.StartPostgres(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, postgres.Close()) }()
	redis, err := service.StartRedis(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, redis.Close()) }()
	s, err := newStage(ctx, postgres.AdminDSN(), redis.URL(), people)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var t table
	for _, step := range []struct {
		name string
		do   func(context.Context, *table) error
	}{
		{"people", s.people}, {"calls", s.calls}, {"online", s.online}, {"rest", s.rest},
		{"rooms", s.openRooms}, {"joins", s.joins}, {"messages", s.messages},
	} {
		fmt.Fprintln(os.Stderr, "scale:", step.name)
		if err := step.do(ctx, &t); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	var page bytes.Buffer
	s.page(&page, &t)
	if out == "" {
		_, err := page.WriteTo(os.Stdout)
		return err
	}
	return os.WriteFile(out, page.Bytes(), 0o644)
}
