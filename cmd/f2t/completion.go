package main

import (
	"strings"

	"github.com/posener/complete"
)

// predictors complete what is no fixed word of the command line. They ask no
// server: whoever presses a key waits for nobody.
func predictors() map[string]complete.Predictor {
	return map[string]complete.Predictor{
		"profile": complete.PredictFunc(func(complete.Args) []string { return predictProfiles() }),
		"method": complete.PredictFunc(func(complete.Args) []string {
			var names []string
			for _, m := range compiledIn().methods {
				whole := strings.Split(strings.Trim(procedure(m), "/"), ".")
				names = append(names, string(m.Name()), strings.ReplaceAll(whole[len(whole)-1], "/", "."))
			}
			return names
		}),
		"level":  complete.PredictSet(levels()...),
		"output": complete.PredictSet("table", "json"),
		"role":   complete.PredictSet("admin", "user"),
		"by":     complete.PredictSet("hour", "day"),
		"policy": complete.PredictSet("api", "auth", "strict", "room_create", "message"),
		"dir":    complete.PredictDirs("*"),
	}
}
