/** `understudy check` without a command: what the kernel offers, which mechanism is used for what, what that means. */
import { styleText } from "node:util";
import { type HostReport, probeHost, requireHost } from "../kernel/host.ts";
import { table } from "./table.ts";

/**
 * Prints the table, or with `json` the report as one document.
 * @throws OperatingError `host-lacks` after printing, when nothing can be protected on this machine
 */
export async function checkHost({ json }: { json: boolean }): Promise<void> {
  const report = await probeHost();
  process.stdout.write(json ? `${JSON.stringify(report, null, 2)}\n` : asTable(report));
  requireHost(report);
}

function asTable(report: HostReport): string {
  const rows = report.features.map(({ name, available, required, detail, mechanism, meaning }) => [
    available ? styleText("green", "yes") : styleText(required ? "red" : "yellow", "no"),
    detail === undefined ? name : `${name}: ${detail}`,
    mechanism,
    meaning,
  ]);
  const verdict = report.ok ? "Applications can be protected on this machine." : "";
  return `Linux ${report.kernel}, ${report.architecture}\n\n${table(["", "the kernel offers", "used for", "what it means"], rows)}${verdict ? `\n${verdict}\n` : ""}`;
}
