/**
 * Which node shall hold an application: pure, over a picture of the cluster. What must hold comes first (the node is open, has the
 * labels asked for, is not avoided), then failure domains, then labels preferred, then room. A choice costs a look at each node.
 */

/** Processor cores, bytes, bytes per second: what is used, or what there is. */
export interface Load {
  cpu: number;
  memory: number;
  network: number;
}

export interface NodePicture {
  name: string;
  labels: Record<string, string>;
  capacity: Load;
  /** Up, and not being emptied. */
  open: boolean;
}

/** An owner's wishes: `placement` in docs/app.yaml. */
export interface PlacementWishes {
  require: Record<string, string>;
  prefer: Record<string, string>;
  avoid: string[];
  /** Label whose values are failure domains: copies of one application lie in different ones where that can be. */
  spread: string;
  /** Applications that shall not have a copy on the same node. */
  apart: string[];
}

export interface ApplicationPicture {
  name: string;
  load: Load;
  primary: string;
  standbys: string[];
  wishes: PlacementWishes;
}

export const noWishes: PlacementWishes = { require: {}, prefer: {}, avoid: [], spread: "zone", apart: [] };

/** A clone holds all memory and gets all that is written, but computes little. */
const STANDBY_CPU = 0.1;

/** What is where, kept up to date as decisions are made, so that the next one sees them. */
export class Picture {
  readonly nodes = new Map<string, NodePicture>();
  readonly applications = new Map<string, ApplicationPicture>();
  readonly #used = new Map<string, Load>();
  /** Applications with a copy on the node. */
  readonly #copies = new Map<string, Set<string>>();

  constructor(nodes: readonly NodePicture[], applications: readonly ApplicationPicture[]) {
    for (const node of nodes) {
      this.nodes.set(node.name, node);
      this.#used.set(node.name, { cpu: 0, memory: 0, network: 0 });
      this.#copies.set(node.name, new Set());
    }
    for (const application of applications) this.#add({ ...application, standbys: [...application.standbys] });
  }

  used(node: string): Load {
    return this.#used.get(node)!;
  }

  copiesOn(node: string): ReadonlySet<string> {
    return this.#copies.get(node) ?? new Set();
  }

  /** The share of the node that is used, of what is scarcest there; with `more` beside. */
  pressure(node: string, more: Load = { cpu: 0, memory: 0, network: 0 }): number {
    const { capacity } = this.nodes.get(node)!;
    const used = this.#used.get(node)!;
    return Math.max(
      (used.cpu + more.cpu) / capacity.cpu,
      (used.memory + more.memory) / capacity.memory,
      (used.network + more.network) / capacity.network,
    );
  }

  place(name: string, primary: string, standbys: readonly string[]): void {
    const application = this.applications.get(name)!;
    this.#weigh(application, -1);
    application.primary = primary;
    application.standbys = [...standbys];
    this.#weigh(application, 1);
  }

  #add(application: ApplicationPicture): void {
    this.applications.set(application.name, application);
    this.#weigh(application, 1);
  }

  #weigh({ name, load, primary, standbys }: ApplicationPicture, sign: 1 | -1): void {
    for (const node of [primary, ...standbys]) {
      const used = this.#used.get(node);
      if (used === undefined) continue;
      const share = copyLoad(load, node === primary);
      used.cpu += sign * share.cpu;
      used.memory += sign * share.memory;
      used.network += sign * share.network;
      if (sign > 0) this.#copies.get(node)!.add(name);
      else this.#copies.get(node)!.delete(name);
    }
  }
}

export function copyLoad(load: Load, isPrimary: boolean): Load {
  return isPrimary ? load : { ...load, cpu: load.cpu * STANDBY_CPU };
}

/** Whether the application may have a copy there at all. */
export function mayHold(picture: Picture, application: ApplicationPicture, node: string): boolean {
  return picture.nodes.get(node)?.open === true && isAllowed(picture, application, node);
}

/** Whether the owner's wishes let it have one there. */
export function isAllowed(picture: Picture, application: ApplicationPicture, node: string): boolean {
  const found = picture.nodes.get(node);
  if (found === undefined) return false;
  const { require, avoid, apart } = application.wishes;
  if (avoid.includes(node)) return false;
  for (const label in require) if (found.labels[label] !== require[label]) return false;
  const copies = picture.copiesOn(node);
  return !apart.some((other) => copies.has(other));
}

/**
 * The best node for a further clone of the application, or undefined when no node may hold one.
 * @param without nodes that are out of the question beside those that have a copy
 */
export function chooseStandby(
  picture: Picture,
  name: string,
  without: ReadonlySet<string> = new Set(),
): string | undefined {
  const application = picture.applications.get(name)!;
  const { wishes, primary, standbys, load } = application;
  const has = new Set([primary, ...standbys]);
  // A copy on a node that is left does not make its failure domain taken.
  const kept = [...has].filter((node) => !without.has(node));
  const domains = new Set(kept.map((node) => picture.nodes.get(node)?.labels[wishes.spread]).filter(Boolean));
  const share = copyLoad(load, false);
  let best: { node: string; rank: [number, number, number] } | undefined;
  for (const node of picture.nodes.values()) {
    if (has.has(node.name) || without.has(node.name) || !mayHold(picture, application, node.name)) continue;
    const rank: [number, number, number] = [
      domains.has(node.labels[wishes.spread]) ? 1 : 0,
      -preferred(node, wishes),
      picture.pressure(node.name, share),
    ];
    if (best === undefined || isBefore(rank, best.rank) || (!isBefore(best.rank, rank) && node.name < best.node))
      best = { node: node.name, rank };
  }
  return best?.node;
}

/** The best of the application's standbys to become its primary: where there is most room. */
export function choosePrimary(picture: Picture, name: string, among: readonly string[]): string | undefined {
  const application = picture.applications.get(name)!;
  const more = { cpu: application.load.cpu * (1 - STANDBY_CPU), memory: 0, network: 0 };
  const open = among.filter((node) => mayHold(picture, application, node));
  const rank = (node: string): [number, number, number] => [
    0,
    -preferred(picture.nodes.get(node)!, application.wishes),
    picture.pressure(node, more),
  ];
  return open.sort((a, b) => (isBefore(rank(a), rank(b)) ? -1 : isBefore(rank(b), rank(a)) ? 1 : a < b ? -1 : 1))[0];
}

function preferred(node: NodePicture, { prefer }: PlacementWishes): number {
  let count = 0;
  for (const label in prefer) if (node.labels[label] === prefer[label]) count++;
  return count;
}

function isBefore(a: [number, number, number], b: [number, number, number]): boolean {
  for (const index of [0, 1, 2] as const) if (a[index] !== b[index]) return a[index] < b[index];
  return false;
}
