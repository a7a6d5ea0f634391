/** How the status page looks: light and dark, wide and narrow. */

export const STYLE = `
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#5c6670;--line:#d8dee4;--good:#1a7f37;--change:#9a6700;--bad:#c1121f;--calm:#0550ae;--bar:#7a8793;--chip:#eef1f4}
@media (prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e4e8ec;--dim:#9aa5b1;--line:#2d343c;--good:#4ac26b;--change:#d4a72c;--bad:#ff7b72;--calm:#79b8ff;--bar:#6b7783;--chip:#20262d}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1rem;background:var(--bg);color:var(--fg);font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.15rem;margin:0}h2{font-size:.95rem;margin:1.6rem 0 .4rem}
header{display:flex;flex-wrap:wrap;gap:.4rem 1.2rem;align-items:baseline}
#live{font-weight:600;color:var(--good)}
#banner{display:none;margin:.7rem 0;padding:.5rem .8rem;border:2px solid var(--bad);color:var(--bad);font-weight:600}
body.stale #banner{display:block}body.stale #live{color:var(--bad)}body.stale main{opacity:.45}
.counters{display:flex;flex-wrap:wrap;gap:.5rem;margin:.8rem 0;padding:0;list-style:none}
.counters li{background:var(--chip);border-radius:.4rem;padding:.3rem .7rem}
.counters b{display:block;font-size:1.1rem;font-variant-numeric:tabular-nums}
.counters span{color:var(--dim);font-size:.8rem}
.wrap{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem .25rem 0;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}
th{color:var(--dim);font-size:.8rem;font-weight:600}
th button{all:unset;cursor:pointer}th button:focus-visible{outline:2px solid var(--calm)}
td.n,th.n{text-align:right}td.wide{white-space:normal;min-width:12rem}
th[aria-sort=ascending] button::after{content:" \\2191"}th[aria-sort=descending] button::after{content:" \\2193"}
.bar{display:inline-block;width:3.5rem;height:.6rem;border:1px solid var(--line);margin-right:.4rem;vertical-align:middle;overflow:hidden}
.bar i{display:block;height:100%;background:var(--bar)}
.bar.near i{background:var(--change)}.bar.full i{background:var(--bad)}
.ready{color:var(--good)}.starting,.changing{color:var(--change)}.draining,.drained{color:var(--calm)}
.lost,.failed,.stale,.suspect,.unhealthy,.error{color:var(--bad);font-weight:600}.left,.dim{color:var(--dim)}
code,pre{font:13px/1.4 ui-monospace,monospace;background:var(--chip);border-radius:.3rem}
code{padding:.1rem .3rem}pre{padding:.7rem;overflow-x:auto}
.copy{all:unset;cursor:pointer;color:var(--calm);margin-left:.4rem;font-size:.8rem}.copy:focus-visible{outline:2px solid var(--calm)}
#events{list-style:none;margin:0;padding:0}#events li{padding:.15rem 0;border-bottom:1px solid var(--line)}#events time{color:var(--dim);margin-right:.6rem}
footer{margin-top:2rem;color:var(--dim);font-size:.85rem}
@media (max-width:40rem){body{padding:.6rem;font-size:14px}.opt{display:none}th code{white-space:normal;overflow-wrap:anywhere}}
@media (prefers-reduced-motion:no-preference){.bar i{transition:width .3s}}
`;
