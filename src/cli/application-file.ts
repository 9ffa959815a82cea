/** Reads the files that `apply`, `diff` and `protect` take: docs/app.yaml is the reference of their keys. */
import { readFile } from "node:fs/promises";
import type { z } from "zod";
import { type Application, type ApplicationInput, applicationSchema } from "../cluster/application.ts";
import { parseYaml } from "../cluster/yaml.ts";
import { OperatingError } from "../kernel/failure.ts";

/** Every application of the file, `-` for standard input. @throws OperatingError `file-unreadable`, `file-invalid` */
export async function readApplications(file: string): Promise<Application[]> {
  const applications = await readDocuments(file, applicationSchema);
  if (applications.length === 0) throw new OperatingError("file-invalid", `There is no application in "${file}"`);
  const names = applications.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    throw new OperatingError("file-invalid", `"${twice}" stands in "${file}" twice`, {
      remedy: "Give each application a name of its own.",
    });
  }
  return applications;
}

/** One application of which keys may still be missing. @throws OperatingError `file-unreadable`, `file-invalid` */
export async function readPartialApplication(file: string): Promise<Partial<ApplicationInput>> {
  const [application, more] = await readDocuments(
    file,
    applicationSchema.partial({ name: true, command: true, address: true }),
  );
  if (more !== undefined) {
    throw new OperatingError("file-invalid", `There are several applications in "${file}"`, {
      remedy: `Start them all with: understudy apply -f ${file}`,
    });
  }
  return (application ?? {}) as Partial<ApplicationInput>;
}

async function readDocuments<S extends z.ZodType>(file: string, schema: S): Promise<z.output<S>[]> {
  let text: string;
  try {
    text = await readFile(file === "-" ? "/dev/stdin" : file, "utf8");
  } catch (cause) {
    throw new OperatingError("file-unreadable", `Cannot read "${file}": ${(cause as Error).message}`, { cause });
  }
  const result = parseYaml(text, file, schema);
  if ("documents" in result) return result.documents;
  throw new OperatingError("file-invalid", result.mistakes.join("\n"), {
    remedy: "Correct the file; docs/app.yaml explains every key.",
  });
}
