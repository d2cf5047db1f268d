"""The page's looks: light and dark, narrow and wide, no script."""

CSS = """
:root{--bg:#fbfbfa;--fg:#1b1c1e;--muted:#55595f;--line:#d9dbde;--card:#fff;--accent:#005a8f;--ours:#e9f3fa;--warn:#7a3b00;
--warn-bg:#fff1df}
@media (prefers-color-scheme:dark){:root{--bg:#15171a;--fg:#e8e9eb;--muted:#a7adb5;--line:#363b42;--card:#1d2024;
--accent:#7cc4f5;--ours:#1c3345;--warn:#ffcf9b;--warn-bg:#3a2713}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main,nav{max-width:1180px;margin:0 auto;padding:0 1rem}
header{padding-top:2rem}
h1{margin:0;font-size:2.1rem;letter-spacing:-.01em}
header p{margin:.25rem 0 1rem;color:var(--muted)}
h2{font-size:1.3rem;margin:2.6rem 0 .8rem;padding-top:.4rem;border-top:1px solid var(--line)}
a{color:var(--accent)}
.skip{position:absolute;left:-999px}
.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.4rem .8rem}
nav ul{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;font-size:.92rem}
.scale{display:inline-block;border:1px solid var(--line);border-radius:999px;padding:0 .7rem;color:var(--fg);
background:var(--card)}
.warning{border-left:4px solid var(--warn);background:var(--warn-bg);color:var(--warn);padding:.7rem 1rem;
margin:1.4rem 0 0;font-weight:600}
.wide{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums;background:var(--card);min-width:100%}
.caption{color:var(--muted);font-size:.92rem;margin:.2rem 0 .6rem}
th,td{padding:.38rem .7rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
th{font-weight:600}
td.n,th.n{text-align:right}
tr.ours td,tr.ours th{background:var(--ours);font-weight:600}
tr.group th{padding-top:1rem;color:var(--muted);font-weight:600}
td .ci{color:var(--muted);font-weight:400;font-size:.86em;margin-left:.2em}
table.pairs td{white-space:normal;overflow-wrap:anywhere}
figure{margin:0 0 2.2rem;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem}
figure img{background:#fff;border-radius:4px}
img,video{max-width:100%;height:auto;display:block;margin:0 auto}
video{width:min(100%,760px)}
figcaption{margin-top:.7rem;font-size:.92rem;color:var(--muted);max-width:90ch}
figcaption b{color:var(--fg)}
li{margin:.25rem 0;max-width:90ch}
main{padding-bottom:4rem}
@media (max-width:640px){body{font-size:15px}.wide img{max-width:none;width:760px}}
@media print{nav,.skip{display:none}figure{break-inside:avoid}}
"""
