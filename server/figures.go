package server

import (
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// figures are the metrics of this process at one moment, by name: what
// /metrics tells.
type figures map[string]*dto.MetricFamily

// figures collects them.
func (t *Telemetry) figures() (figures, error) {
	all := figures{}
	if t == nil {
		return all, nil
	}
	families, err := t.registry.Gather()
	for _, family := range families {
		all[family.GetName()] = family
	}
	return all, err
}

// labels are what a series carries; of those that are asked for.
type labels map[string]string

func (want labels) of(m *dto.Metric) bool {
	found := 0
	for _, pair := range m.GetLabel() {
		if value, asked := want[pair.GetName()]; asked && value == pair.GetValue() {
			found++
		}
	}
	return found == len(want)
}

// sum adds up the series of a name that carry these labels.
func (f figures) sum(name string, want labels) (sum float64) {
	for _, m := range f[name].GetMetric() {
		if want.of(m) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// values are the values that a label has in the series of a name, each once,
// in their order.
func (f figures) values(name, label string) (values []string) {
	seen := map[string]bool{}
	for _, m := range f[name].GetMetric() {
		for _, pair := range m.GetLabel() {
			if value := pair.GetValue(); pair.GetName() == label && !seen[value] {
				seen[value] = true
				values = append(values, value)
			}
		}
	}
	return values
}

// quantile estimates how long the q-th part of what a histogram holds took at
// most, as PromQL's histogram_quantile does: what fell between two bounds
// counts as spread evenly. False where nothing was measured.
func (f figures) quantile(name string, want labels, q float64) (time.Duration, bool) {
	for _, m := range f[name].GetMetric() {
		h := m.GetHistogram()
		if !want.of(m) || h.GetSampleCount() == 0 {
			continue
		}
		rank := q * float64(h.GetSampleCount())
		low, below := 0.0, 0.0
		for _, bucket := range h.GetBucket() {
			high, count := bucket.GetUpperBound(), float64(bucket.GetCumulativeCount())
			if math.IsInf(high, 1) {
				break
			}
			if count >= rank && count > below {
				return lasting(low + (high-low)*(rank-below)/(count-below)), true
			}
			low, below = high, count
		}
		return lasting(low), true // longer than the last bound
	}
	return 0, false
}

func lasting(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
