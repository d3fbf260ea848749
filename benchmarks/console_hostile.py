"""Forty texts that would run in a careless page, through every text that the console shows."""

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from rewact_ros.bench.figures import Bench
from rewact_ros.msg import EpisodeEvent, PolicyStatus, RecorderStatus, SupervisorStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.stack.rig_stack import Robot

HIT = "window.__hit=1"
TEXTS = [
    f"<script>{HIT}</script>",
    f"<img src=x onerror={HIT}>",
    f'"><img src=x onerror="{HIT}">',
    f"'><svg onload={HIT}>",
    f"<svg><script>{HIT}</script></svg>",
    f"<iframe srcdoc='<script>parent.{HIT}</script>'></iframe>",
    f"javascript:{HIT}",
    f"<a href='javascript:{HIT}'>x</a>",
    f"<body onload={HIT}>",
    f"<details open ontoggle={HIT}>",
    f"<video><source onerror={HIT}></video>",
    f"<audio src=x onerror={HIT}>",
    f"<input autofocus onfocus={HIT}>",
    f"<select autofocus onfocus={HIT}>",
    f"<textarea autofocus onfocus={HIT}>",
    f"<marquee onstart={HIT}>",
    f"<object data='javascript:{HIT}'>",
    f"<embed src='javascript:{HIT}'>",
    f"<math href='javascript:{HIT}'>x</math>",
    f"<form action='javascript:{HIT}'><button>x</button></form>",
    f"<style>@import 'http://127.0.0.1:1/x';</style><script>{HIT}</script>",
    "<link rel=stylesheet href=http://127.0.0.1:1/x>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:1/'>",
    "<base href=http://127.0.0.1:1/>",
    f"{{{{constructor.constructor('{HIT}')()}}}}",
    f"${{{HIT}}}",
    f"`;{HIT};//",
    f"';{HIT};//",
    f'";{HIT};//',
    f"*/{HIT}/*",
    f"</script><script>{HIT}</script>",
    f"<!--><script>{HIT}</script>-->",
    f"<![CDATA[<script>{HIT}</script>]]>",
    f"%3Cscript%3E{HIT}%3C/script%3E",
    f"&lt;script&gt;{HIT}&lt;/script&gt;",
    f"\\u003cscript\\u003e{HIT}\\u003c/script\\u003e",
    f"\u202e<script>{HIT}</script>\u202c",
    f"\x1b]8;;javascript:{HIT}\x07x\x1b]8;;\x07",
    f"<script>{HIT}\x00</script>",
    "A" * 5000 + f"<script>{HIT}</script>",
]


def hostile(bench: Bench, robot: Robot, chromium: Any) -> None:
    """Publish and type each text; count what ran, what was asked of elsewhere, what was made."""
    rig, page = robot.rig, chromium.page
    node = rig.node
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    own = page.evaluate("location.origin")
    publishers = {
        SupervisorStatus: (names.SUPERVISOR_STATUS, names.LATCHED),
        EpisodeEvent: (names.EPISODE_EVENT, names.EVENTS),
        RecorderStatus: (names.RECORDER_STATUS, names.LATCHED),
        PolicyStatus: (names.POLICY_STATUS, names.COMMAND),
        DiagnosticArray: (names.DIAGNOSTICS, names.LATCHED),
    }
    out = {kind: node.create_publisher(kind, *about) for kind, about in publishers.items()}
    texts = TEXTS[:3] if bench.quick else TEXTS
    shown = 0
    for text in texts:
        for message in _messages(text):
            out[type(message)].publish(message)
        for field in ("#task-text", "#name"):
            page.evaluate(
                "([field, text]) => { document.querySelector(field).value = text }", [field, text]
            )
        page.click("#task-start", force=True)  # pressed in vain: it says why
        rig.pause(0.5)
        shown += text[:8].isprintable() and text[:8] in page.inner_text("main")
    made = page.evaluate(
        "document.querySelectorAll('main script, main iframe, main svg, main "
        "object, main embed, main form:not(#task), main style, main link').length"
    )
    elsewhere = [url for url in asked if not url.startswith((own, "blob:", "data:"))]
    bench.settings["hostile"] = {"texts": len(texts), "ways": 2 + len(publishers)}
    bench.add("hostile: texts seen on the page", shown, "", goal=f"≥ {len(texts) - 3}")
    ran = int(bool(page.evaluate("window.__hit || 0"))) + len(chromium.dialogs)
    bench.add("hostile: texts that ran", ran, "", goal="≤ 0", n=len(texts))
    bench.add("hostile: elements that a text made", made, "", goal="≤ 0", n=len(texts))
    bench.add("hostile: requests elsewhere", len(elsewhere), "", goal="≤ 0", n=len(texts))


def _messages(text: str) -> list[Any]:
    status = DiagnosticStatus(name=f"/{text}", message=text, hardware_id=text)
    status.values = [KeyValue(key=text, value=text), KeyValue(key="standing", value=text)]
    known = DiagnosticStatus(name="/hil", message=text)
    return [
        SupervisorStatus(episode_id=text, phase=text, text=text, alarms=[text] * 3, bound=text),
        EpisodeEvent(episode_id=text, task=text, termination_reason=text, detail=text, by=text),
        RecorderStatus(recording=True, episode_id=text, bag=text, text=text, topics=[text]),
        PolicyStatus(ready=True, stale_stream=text, reason=text, policy_version=text),
        DiagnosticArray(status=[status, known]),
    ]
