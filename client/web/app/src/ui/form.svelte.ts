// What every form does: send once at a time, and show what the server says at its fields.

import { tick } from "svelte";
import { explain, type FieldErrors, fieldErrors, retryTime } from "../problems";

/** Form is the state of a form that is being sent. */
export class Form {
  errors = $state.raw<FieldErrors>({});
  /** What is wrong with the form as a whole. */
  problem = $state<string>();
  /** When to try again, as a time. */
  until = $state<number>();
  busy = $state(false);

  private element: HTMLFormElement | undefined;

  /** on is what to do when the form is submitted. */
  on(submit: () => Promise<void>): (event: SubmitEvent) => void {
    return (event) => {
      event.preventDefault();
      this.element = event.currentTarget as HTMLFormElement;
      if (!this.busy) void submit();
    };
  }

  /** run makes the call; true where it went well. Else the focus goes to the first field that is wrong. */
  async run(call: () => Promise<unknown>): Promise<boolean> {
    this.busy = true;
    try {
      await call();
      this.clear();
      return true;
    } catch (error) {
      this.fail(error);
      return false;
    } finally {
      this.busy = false;
    }
  }

  /** fail shows an error. */
  fail(error: unknown): void {
    this.errors = fieldErrors(error);
    const fields = Object.keys(this.errors).length > 0;
    this.problem = fields ? undefined : explain(error);
    this.until = fields ? undefined : retryTime(error);
    if (fields) void this.point();
  }

  /** clear forgets what was wrong. */
  clear(): void {
    this.errors = {};
    this.problem = undefined;
    this.until = undefined;
  }

  private async point(): Promise<void> {
    await tick();
    const wrong = this.element?.querySelector<HTMLElement>('[aria-invalid="true"]');
    if (wrong) wrong.focus();
    else this.problem = Object.values(this.errors)[0]; // of a field that this form does not have
  }
}
