// The time, for what is shown as "2 minutes ago" and counted down.

import { createSubscriber } from "svelte/reactivity";

class Clock {
  private value = Date.now();
  private follow: () => void;

  constructor(step: number) {
    this.follow = createSubscriber((update) => {
      this.value = Date.now();
      const timer = setInterval(() => {
        this.value = Date.now();
        update();
      }, step);
      return () => clearInterval(timer);
    });
  }

  /** now is the time in milliseconds; what reads it in a template is written anew at each step. */
  get now(): number {
    this.follow();
    return this.value;
  }
}

/** seconds steps once a second. */
export const seconds = new Clock(1_000);

/** minutes steps twice a minute. */
export const minutes = new Clock(30_000);
