DROP TABLE analytics_uses;

DROP TABLE analytics_days;

DROP TABLE analytics_hours;
