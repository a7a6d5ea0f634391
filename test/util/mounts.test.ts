import { expect, test } from "bun:test";
import { fileSystemAt, networkFileSystemOf } from "../../src/util/mounts.ts";

// Lines as proc(5) describes them; the first is a root as Docker makes it.
const MOUNTS = `
21 1 0:29 / / rw,relatime - overlay overlay rw,lowerdir=/a
22 21 8:1 / /var/lib rw,relatime shared:1 - ext4 /dev/sda1 rw
23 21 0:41 / /home rw - nfs4 server:/home rw,vers=4.2
24 23 8:2 / /home/local rw - xfs /dev/sdb rw
25 21 0:42 / /mnt/with\\040blank rw - fuse.sshfs me@there:/ rw
26 21 0:43 / /mnt/under rw - ext4 /dev/sdc rw
27 26 0:44 / /mnt/under rw master:3 - cifs //there/share rw
nonsense
`;

test.each([
  ["/", "overlay"],
  ["/etc/llmnode", "overlay"],
  ["/var/lib", "ext4"],
  ["/var/lib/llmnode/head", "ext4"],
  ["/var/libx", "overlay"],
  ["/home/me/.local/state", "nfs4"],
  ["/home/local/state", "xfs"],
  ["/mnt/with blank/state", "fuse.sshfs"],
  ["/mnt/under/state", "cifs"],
])("%s lies on %s", (path, type) => {
  expect(fileSystemAt(MOUNTS, path)).toBe(type);
});

test("without mounts nothing is known, and a folder that is not there is no network's", () => {
  expect(fileSystemAt("", "/")).toBe(null);
  expect(networkFileSystemOf("/no/such/folder")).toBe(null);
});
