package live

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// hubMetrics counts what passes through a hub.
type hubMetrics struct {
	deliveries metric.Int64Counter
	heals      metric.Int64Counter
}

func newHubMetrics(meter metric.Meter, h *Hub) (*hubMetrics, error) {
	if meter == nil {
		meter = noop.Meter{}
	}
	m := &hubMetrics{}
	var errs [3]error
	m.deliveries, errs[0] = meter.Int64Counter("free2talk_events_delivered",
		metric.WithDescription("Events handed to listeners of this node, once for each."))
	m.heals, errs[1] = meter.Int64Counter("free2talk_events_healed",
		metric.WithDescription("Events that did not come by the bus and were read from the table."))
	_, errs[2] = meter.Int64ObservableGauge("free2talk_topics",
		metric.WithDescription("Topics that this node listens to."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			o.Observe(int64(len(h.topics)))
			return nil
		}))
	if err := errors.Join(errs[:]...); err != nil {
		return m, err
	}
	m.deliveries.Add(context.Background(), 0) // there from the start, so that rates have a beginning
	m.heals.Add(context.Background(), 0)
	return m, nil
}

func (m *hubMetrics) delivered(n int) { m.deliveries.Add(context.Background(), int64(n)) }
func (m *hubMetrics) healed()         { m.heals.Add(context.Background(), 1) }
