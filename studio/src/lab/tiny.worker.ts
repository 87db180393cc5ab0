/** Trains the tiny network apart from the page, which stays quick. One request a worker: ending the
 * worker ends the training. */
import { train, type TrainingRequest, type TrainingState } from "./tiny.ts";

export type Reply = { state: TrainingState } | { error: string } | { done: true };

self.onmessage = ({ data }: MessageEvent<{ request: TrainingRequest; every: number; starts: Float32Array }>) => {
  const reply = (message: Reply) => self.postMessage(message);
  try {
    for (const { network, ...state } of train(data.request, data.every, data.starts)) reply({ state });
    reply({ done: true });
  } catch (error) {
    reply({ error: String(error) });
  }
};
