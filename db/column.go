package db

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"
)

// stampLayout sorts as text in the order of time, and Postgres reads it too.
const stampLayout = "2006-01-02T15:04:05.000000Z"

// stamp is a time in the database: UTC, whole microseconds, NULL for the zero time.
type stamp struct{ time.Time }

// at is t as the database keeps it.
func at(t time.Time) stamp { return stamp{t} }

// Value writes the time as text.
func (s stamp) Value() (driver.Value, error) {
	if s.IsZero() {
		return nil, nil //nolint:nilnil // NULL
	}
	return s.UTC().Format(stampLayout), nil
}

// Scan reads what either database answers.
func (s *stamp) Scan(src any) error {
	switch src := src.(type) {
	case nil:
		s.Time = time.Time{}
	case time.Time:
		s.Time = src.UTC()
	case []byte:
		return s.parse(string(src))
	case string:
		return s.parse(src)
	default:
		return fmt.Errorf("time: cannot read %T", src)
	}
	return nil
}

func (s *stamp) parse(text string) error {
	layout := stampLayout
	if len(text) > 10 && text[10] == ' ' {
		layout = "2006-01-02 15:04:05.999999-07" // Postgres, with TimeZone UTC
	}
	t, err := time.Parse(layout, text)
	s.Time = t.UTC()
	return err
}

// tags is a list of texts, kept as a JSON array; empty and nil are the same.
type tags []string

// Value writes the list as JSON.
func (t tags) Value() (driver.Value, error) {
	if len(t) == 0 {
		return "[]", nil
	}
	text, err := json.Marshal([]string(t))
	return string(text), err
}

// Scan reads the JSON.
func (t *tags) Scan(src any) error {
	*t = nil
	var list []string
	switch src := src.(type) {
	case nil:
		return nil
	case []byte:
		if err := json.Unmarshal(src, &list); err != nil {
			return err
		}
	case string:
		if err := json.Unmarshal([]byte(src), &list); err != nil {
			return err
		}
	default:
		return fmt.Errorf("list: cannot read %T", src)
	}
	if len(list) > 0 {
		*t = list
	}
	return nil
}
