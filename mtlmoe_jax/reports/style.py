"""The look of a report."""

CSS = """
:root{--ink:#22262d;--mute:#6b7280;--line:#e4e7ec;--true:#2fd16f;--pred:#ff7f0e}
*{box-sizing:border-box}
body{margin:0;background:#f5f6f8;color:var(--ink);
font:14px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:24px;margin:0 0 2px}h2{font-size:18px;margin:36px 0 4px}
p{margin:4px 0 12px;max-width:80ch}.mute,figcaption{color:var(--mute)}
.panel{background:#fff;border:1px solid var(--line);border-radius:10px;
padding:16px 18px;margin:12px 0;overflow-x:auto}
.panel>img{display:block;max-width:100%;height:auto;margin:0 auto}
.heads{display:flex;flex-wrap:wrap;gap:12px;margin:14px 0 4px}
.head{flex:1 1 150px;border:1px solid var(--line);border-radius:8px;
padding:8px 12px}
.head b{display:block;font-size:24px;line-height:1.25;font-weight:650}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));
gap:6px 18px;margin:12px 0 0}
dt{color:var(--mute);font-size:12px}dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:5px 10px;border-bottom:1px solid var(--line)}
th{color:var(--mute);font-weight:600;font-size:12px}
td.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th.num{text-align:right}
.grid{display:grid;gap:14px;
grid-template-columns:repeat(auto-fill,minmax(172px,1fr))}
figure{margin:0;background:#fff;border:1px solid var(--line);
border-radius:8px;overflow:hidden}
.frame{position:relative;height:172px;background:#eef0f3;display:flex;
align-items:center;justify-content:center}
.shot{position:relative}
.shot img{display:block;width:100%;height:100%}
.shot svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.shot rect{fill:none;stroke-width:2.5px;vector-effect:non-scaling-stroke}
.shot rect.halo{stroke:#0007;stroke-width:4.5px}
.shot rect.t{stroke:var(--true)}.shot rect.p{stroke:var(--pred)}
figcaption{padding:7px 10px 9px;font-size:12px;line-height:1.4}
figcaption b{color:var(--ink);font-weight:600}
figcaption div{overflow-wrap:anywhere}
.ok{color:#137a3e}.no{color:#c0341d}
.key{max-width:none}.key span{white-space:nowrap}
.key i{display:inline-block;width:14px;height:10px;margin:0 4px 0 14px;
border:2.5px solid}
.bar{display:flex;height:13px;border-radius:3px;overflow:hidden;flex:1;
background:#eef0f3}
.bar i{display:block;color:#fff;font:600 9px/13px sans-serif;
text-align:center;overflow:hidden}
.gate{display:flex;gap:6px;align-items:center;margin-top:3px}
.gate span{width:34px}
details{margin:10px 0}summary{cursor:pointer;color:var(--mute)}
pre{font-size:12px;overflow-x:auto}
.pairs{display:grid;gap:22px 26px;
grid-template-columns:repeat(auto-fill,minmax(336px,1fr))}
.pair>div{display:grid;gap:12px;margin-top:8px;
grid-template-columns:1fr 1fr;align-items:start}
"""
