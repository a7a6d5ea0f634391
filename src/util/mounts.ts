/** Which kind of file system a folder lies on, as far as the kernel shows it. */

import { readFileSync, realpathSync } from "node:fs";

/** Types that reach over a network, where locks and durable writes are promises at best. */
const NETWORK =
  /^(nfs\d?|cifs|smb\d?|smbfs|ncpfs|afs|ceph|lustre|glusterfs|9p|gpfs|beegfs|orangefs|pvfs2|fuse\.(sshfs|ceph|ceph-fuse|glusterfs|s3fs|goofys|rclone|juicefs|gcsfuse|davfs|moosefs|mfs))$/;

/** The type of a network file system that holds `dir`; null for a local one and where unknown. */
export function networkFileSystemOf(dir: string): string | null {
  let mounts: string;
  let path: string;
  try {
    mounts = readFileSync("/proc/self/mountinfo", "utf8");
    path = realpathSync(dir);
  } catch {
    // Not Linux, or a folder that is not there: its user finds out.
    return null;
  }
  const type = fileSystemAt(mounts, path);
  return type !== null && NETWORK.test(type) ? type : null;
}

/** The file system type at an absolute path, from the text of `/proc/self/mountinfo` (proc(5)). */
export function fileSystemAt(mountinfo: string, path: string): string | null {
  let found: { point: string; type: string } | null = null;
  for (const line of mountinfo.split("\n")) {
    const [before = "", after = ""] = line.split(" - ", 2);
    const point = unescape(before.split(" ")[4] ?? "");
    const type = after.split(" ")[0] ?? "";
    if (point === "" || type === "") continue;
    const prefix = point.endsWith("/") ? point : `${point}/`;
    const holds = path === point || path.startsWith(prefix);
    // Of two mounts at one point the later one is on top.
    if (holds && (!found || point.length >= found.point.length)) found = { point, type };
  }
  return found?.type ?? null;
}

/** Blanks in mount points are written as octal numbers. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
