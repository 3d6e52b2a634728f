package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/free2talk/free2talk/internal/testenv/service"
)

func main() {
	people := flag.Int("people", 2000, "how many people go online")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *people); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be done
	}
}

// run starts what is measured, measures it, and prints the tables.
func run(ctx context.Context, people int) (err error) {
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
	fmt.Fprintf(os.Stdout, "Measured on %s, %d processors, %s, with %d people online on one node.\n\n", time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.Version(), people)
	t.print()
	fmt.Fprintln(os.Stdout)
	s.project()
	return nil
}
