// The levels, and what they are called.

import { Level } from "@free2talk/client";
import { i18n } from "./i18n/index.svelte";

/** levels are those to choose from, the easiest first after the one for all. */
export const levels: readonly Level[] = [
  Level.ANY,
  Level.BEGINNER,
  Level.UPPER_BEGINNER,
  Level.INTERMEDIATE,
  Level.UPPER_INTERMEDIATE,
  Level.ADVANCED,
  Level.UPPER_ADVANCED,
];

const keys = [
  "any",
  "any",
  "beginner",
  "upperBeginner",
  "intermediate",
  "upperIntermediate",
  "advanced",
  "upperAdvanced",
] as const;

/** levelName is what a level is called; one that this app does not know counts as for all. */
export function levelName(level: Level): string {
  return i18n.t.levels[keys[level] ?? "any"];
}

/** levelKey is a level in an address, and the level of such a key. */
export const levelKey = (level: Level): string => String(keys[level] ?? "any");

/** levelOf is the level that an address names; undefined where it names none. */
export function levelOf(key: string | null): Level | undefined {
  const level = levels.find((l) => levelKey(l) === key);
  return level;
}
