/**
 * Names as people and JSON see them. A name is bytes; what is not readable UTF-8 stands as `\xNN`, a backslash as `\\`. In the
 * program a name holds one byte per character (latin1).
 */

const readable = new TextDecoder("utf-8", { fatal: true });

/** Bytes (latin1) to text. */
export function showName(name: string): string {
  if (/^[\x20-\x5b\x5d-\x7e]*$/.test(name)) return name;
  let shown = "";
  for (let at = 0; at < name.length; ) {
    const length = utf8Length(name, at);
    shown += length > 0 ? decode(name.slice(at, at + length)) : escaped(name[at]!);
    at += Math.max(1, length);
  }
  return shown;
}

/** Text to bytes (latin1): what `showName` made, or a name as it is typed. */
export function readName(shown: string): string {
  const bytes = Buffer.from(shown).toString("latin1");
  return bytes.replace(/\\(?:x([0-9a-fA-F]{2})|\\)/g, (_, hex?: string) =>
    hex === undefined ? "\\" : String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function escaped(byte: string): string {
  if (byte === "\\") return "\\\\";
  if (byte >= " " && byte <= "~") return byte;
  return `\\x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`;
}

/** Length of the readable character of more than one byte that begins there; 0 when there is none. */
function utf8Length(name: string, at: number): number {
  const first = name.charCodeAt(at);
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (length === 0 || at + length > name.length) return 0;
  const text = decode(name.slice(at, at + length));
  // Controls, and what changes how the rest of a line is shown.
  return text !== "" && !/[\p{C}\p{Zl}\p{Zp}]/u.test(text) ? length : 0;
}

function decode(bytes: string): string {
  try {
    return readable.decode(Buffer.from(bytes, "latin1"));
  } catch {
    return "";
  }
}
