package server

import (
	"context"
	"time"

	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	"github.com/free2talk/free2talk/server/talk"
)

var intervals = map[adminv1.Interval]time.Duration{
	adminv1.Interval_INTERVAL_HOUR: time.Hour,
	adminv1.Interval_INTERVAL_DAY:  24 * time.Hour,
}

// GetAnalytics tells how the service was used.
func (h adminHandler) GetAnalytics(ctx context.Context, req *adminv1.GetAnalyticsRequest) (*adminv1.GetAnalyticsResponse, error) {
	query := talk.ReportQuery{Interval: intervals[req.GetInterval()]}
	if req.GetFrom() != nil {
		query.From = req.GetFrom().AsTime()
	}
	if req.GetTo() != nil {
		query.To = req.GetTo().AsTime()
	}
	report, err := h.analytics.Report(ctx, query)
	if err != nil {
		return nil, err
	}
	interval := adminv1.Interval_INTERVAL_HOUR
	if report.Interval > time.Hour {
		interval = adminv1.Interval_INTERVAL_DAY
	}
	return &adminv1.GetAnalyticsResponse{
		Points: each(report.Points, wireUsage), Interval: interval,
		TopRooms: each(report.Rooms, wireRoomUse), TopLanguages: each(report.Languages, wireLanguageUse),
	}, nil
}

func wireUsage(u talk.Usage) *adminv1.AnalyticsPoint {
	return &adminv1.AnalyticsPoint{
		Time: wireTime(u.Start), PeakOnline: int32(u.PeakOnline), ActiveUsers: int32(u.ActiveUsers), Joins: int32(u.Joins),
		RoomsCreated: int32(u.RoomsCreated), MinutesTogether: u.Together.Minutes(), Partial: u.Partial,
	}
}

func wireRoomUse(u talk.RoomUse) *adminv1.RoomUse {
	return &adminv1.RoomUse{RoomId: string(u.ID), Name: u.Name, Joins: int32(u.Joins), MinutesTogether: u.Together.Minutes()}
}

func wireLanguageUse(u talk.LanguageUse) *adminv1.LanguageUse {
	return &adminv1.LanguageUse{Language: u.Language, Joins: int32(u.Joins), MinutesTogether: u.Together.Minutes()}
}
