/** One thread of `parallel.ts`. */
import { parentPort, workerData } from "node:worker_threads";
import { type LivesOptions, runLives } from "./lives.ts";

parentPort!.postMessage(runLives(workerData as LivesOptions));
