/** Plain tables for people: columns as wide as their widest cell, two spaces between, no lines. */
import { stripVTControlCharacters, styleText } from "node:util";

/** Ends with a newline. Cells may be coloured; columns whose every cell is a number are set flush right. */
export function table(headings: string[], rows: string[][]): string {
  const width = (cell: string) => stripVTControlCharacters(cell).length;
  const columns = headings.map((heading, index) => {
    const cells = rows.map((row) => row[index] ?? "");
    return {
      width: Math.max(width(heading), ...cells.map(width)),
      numeric: cells.length > 0 && cells.every((cell) => /^-?[\d.,]+( ?[a-zµ%/]+)?$|^$/i.test(cell.trim())),
    };
  });
  const line = (row: string[]) =>
    columns
      .map((column, index) => {
        const cell = row[index] ?? "";
        const space = " ".repeat(column.width - width(cell));
        return column.numeric ? space + cell : cell + space;
      })
      .join("  ")
      .trimEnd();
  const heading = headings.map((text) => (text === "" ? "" : styleText("bold", text)));
  return `${[heading, ...rows].map(line).join("\n")}\n`;
}
