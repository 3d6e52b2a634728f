// Dates, times and numbers, as the language of the app writes them.

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { i18n } from "./i18n/index.svelte";

/** toDate is the server's time as the browser has it. */
export function toDate(time: Timestamp): Date {
  return new Date(Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6));
}

const made = new Map<string, unknown>();

// Making a formatter costs far more than using it.
function keep<T>(kind: string, make: (locale: string) => T): T {
  const key = `${i18n.locale} ${kind}`;
  let formatter = made.get(key) as T | undefined;
  if (!formatter) {
    formatter = make(i18n.locale);
    made.set(key, formatter);
  }
  return formatter;
}

/** number is a count, with the marks of the language. */
export function number(n: number): string {
  return keep("number", (locale) => new Intl.NumberFormat(locale)).format(n);
}

/** compact is a count in little room: 1.2K. */
export function compact(n: number): string {
  return keep(
    "compact",
    (locale) => new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 }),
  ).format(n);
}

/** percent is a part of one, such as 0.974, as 97.4 %. */
export function percent(part: number): string {
  return keep(
    "percent",
    (locale) => new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 }),
  ).format(part);
}

/** clockTime is hours and minutes. */
export function clockTime(date: Date): string {
  return keep("clock", (locale) => new Intl.DateTimeFormat(locale, { timeStyle: "short" })).format(date);
}

/** dateTime is a day and a time, of medium length. */
export function dateTime(date: Date): string {
  return keep(
    "date time",
    (locale) => new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }),
  ).format(date);
}

/** hourOf is an hour of a day of this year. */
export function hourOf(date: Date): string {
  return keep(
    "hour",
    (locale) => new Intl.DateTimeFormat(locale, { month: "short", day: "numeric", hour: "numeric" }),
  ).format(date);
}

/** day is a date without a time. */
export function day(date: Date): string {
  return keep("day", (locale) => new Intl.DateTimeFormat(locale, { dateStyle: "long" })).format(date);
}

const steps: [Intl.RelativeTimeFormatUnit, number][] = [
  ["second", 60],
  ["minute", 60],
  ["hour", 24],
  ["day", 30],
  ["month", 12],
  ["year", Infinity],
];

/** ago is how far a time is from now, in words: 5 minutes ago, in 2 hours. */
export function ago(date: Date, now = Date.now()): string {
  const words = keep("ago", (locale) => new Intl.RelativeTimeFormat(locale, { numeric: "auto" }));
  let amount = (date.getTime() - now) / 1000;
  for (const [unit, size] of steps) {
    if (Math.abs(amount) < size) return words.format(Math.round(amount), unit);
    amount /= size;
  }
  return dateTime(date);
}

/** span is a length of time in its largest unit, rounded up: 12 seconds, 3 minutes. */
export function span(milliseconds: number): string {
  const seconds = Math.max(1, Math.ceil(milliseconds / 1000));
  const [amount, unit] =
    seconds < 90
      ? [seconds, "second"]
      : seconds < 90 * 60
        ? [Math.ceil(seconds / 60), "minute"]
        : seconds < 36 * 3600
          ? [Math.ceil(seconds / 3600), "hour"]
          : [Math.ceil(seconds / 86400), "day"];
  return keep(
    `span ${unit}`,
    (locale) => new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }),
  ).format(amount);
}
