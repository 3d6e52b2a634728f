package main

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// store measures goal G8, by the benchmark of the package db: its own servers,
// and the whole machine, where the variants take turns likewise.
func (r *run) store() error {
	command := exec.CommandContext(r.ctx, "taskset", "-c", serverCPU+","+othersCPU,
		"go", "run", "./internal/testenv/run", "--",
		"go", "test", "-run=^$", "-bench=^BenchmarkJoinLeave$", fmt.Sprintf("-benchtime=%dx", 5*r.rounds), "./db/")
	reply, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, reply)
	}
	for _, name := range []string{"spread_over_rooms", "in_one_room"} {
		value, beside, err := benchmarked(string(reply), name)
		if err != nil {
			return err
		}
		r.table.rows = append(r.table.rows, row{
			"G8 join and leave, " + strings.ReplaceAll(name, "_", " ") + ": per second ÷ the same transactions by bare pgx", "≥ 0.7", value, beside,
		})
	}
	return nil
}

// benchmarked finds the store's rate over pgx's in what go test printed, and
// the other figures beside it.
func benchmarked(printed, name string) (value float64, beside string, err error) {
	for line := range strings.Lines(printed) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.Contains(fields[0], "/"+name) {
			continue
		}
		var rest []string
		found := false
		for i := 2; i+1 < len(fields); i += 2 {
			switch fields[i+1] {
			case "store/pgx":
				if value, err = strconv.ParseFloat(fields[i], 64); err != nil {
					return 0, "", err
				}
				found = true
			case "ns/op":
			default:
				rest = append(rest, fields[i]+" "+fields[i+1])
			}
		}
		if found {
			return value, strings.Join(rest, ", "), nil
		}
	}
	return 0, "", fmt.Errorf("no figures of %s in:\n%s", name, printed)
}
