// What people do in the app, as they would: by labels, by roles, by what stands on the page.

import { expect } from "vitest";
import type { Page } from "playwright-core";

/** The password of everybody in these tests. */
export const password = "five green umbrellas";

/** signUp makes an account by the form, and comes back to where one was. */
export async function signUp(page: Page, origin: string, username: string): Promise<void> {
  await page.goto(`${origin}/register`);
  await page.getByLabel("E-mail").fill(`${username}@example.org`);
  await page.getByLabel("Username").fill(username);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.locator("form").getByRole("button", { name: "Sign up" }).click();
  await page.getByText(`Welcome, ${username}!`).waitFor();
}

/** openRoom opens a room by the form; it returns the address of the room. */
export async function openRoom(page: Page, name: string, language = "es", seats = 4): Promise<string> {
  await page.getByRole("button", { name: "Open a room" }).first().click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill(name);
  await dialog.getByLabel("Languages").selectOption(language);
  await dialog.getByLabel("Seats").fill(String(seats));
  await dialog.getByRole("button", { name: "Open the room" }).click();
  await page.getByRole("heading", { name, level: 1 }).waitFor();
  return page.url();
}

/** join takes a seat in the room that one looks at. */
export async function join(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Join", exact: true }).click();
  await page.getByLabel("Write a message").waitFor();
}

/** say posts a message. */
export async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel("Write a message").fill(text);
  await page.getByLabel("Write a message").press("Enter");
}

/** cards are the rooms of the lobby. */
export const cards = (page: Page) => page.getByRole("list", { name: "Open rooms" });

/** seat is somebody's seat at the table, by their username. */
export const seat = (page: Page, username: string) => page.locator(`li[data-user="${username}"]`);

/** owner waits until somebody runs the room. */
export async function owner(page: Page, username: string): Promise<void> {
  await seat(page, username).getByRole("button", { name: /Owner/ }).waitFor();
}

/** hears waits until a message is read. */
export async function hears(page: Page, text: string): Promise<void> {
  await page.getByRole("log").getByText(text, { exact: true }).waitFor();
}

/** quiet expects that no note of a lost connection is up. */
export async function quiet(page: Page): Promise<void> {
  expect(await page.getByText("The connection is lost").count()).toBe(0);
}
