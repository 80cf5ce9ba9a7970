"""Chromium without a window, driven over a pipe by its DevTools protocol: nothing but the standard library."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

NAME = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# It can reach nothing but this machine, and plays sound to nowhere without being clicked.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Browser:
    """A context manager: Chromium runs between its ends."""

    def __init__(self, profile: Path) -> None:
        if NAME is None:
            if os.environ.get("CI"):
                pytest.fail("CI needs chromium")
            pytest.skip("needs chromium")
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        # The browser wants the pipe's ends as numbers 3 and 4.
        command = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "-", NAME, *OPTIONS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest = b""
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.call("Browser.close")
        finally:
            self._process.wait(20)
            os.close(self._in)
            os.close(self._out)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer; events that come meanwhile are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._in, 1 << 16)
            assert more, "the browser has gone"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        result: dict[str, Any] = json.loads(message)
        return result

    def open(self, address: str, width: int = 1280, height: int = 800, before: str = "") -> Tab:
        """Open an address in a tab of its own; `before` runs before its scripts."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        tab = Tab(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.call("Page.setLifecycleEventsEnabled", enabled=True)
        tab.size(width, height)
        if before:
            tab.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        tab.go(address)
        return tab


class Tab:
    """A page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page, wait for it if it is a promise, and return its value."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def go(self, address: str) -> None:
        """Open an address in this tab and wait until it has loaded: a script run earlier may meet the page before."""
        loader = self.call("Page.navigate", url=address)["loaderId"]
        while not any((e["loaderId"], e["name"]) == (loader, "load") for e in self.events("Page.lifecycleEvent")):
            self.run("0")

    def size(self, width: int, height: int, density: float = 1) -> None:
        """Give the window a size, a phone's or a desk's."""
        size = {"width": width, "height": height, "deviceScaleFactor": density, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, scheme: str) -> None:
        """Say that the user likes pages "dark" or "light"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, key: str, code: str = "", modifiers: int = 0) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code, modifiers=modifiers)

    def mouse(self, *points: tuple[float, float]) -> None:
        """Press at the first point, move over the others, release at the last."""
        steps = [("mousePressed", points[0]), *(("mouseMoved", p) for p in points[1:]), ("mouseReleased", points[-1])]
        for kind, (x, y) in steps:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def picture(self) -> str:
        """Take a screenshot: PNG in base64."""
        data: str = self.call("Page.captureScreenshot", format="png")["data"]
        return data

    def events(self, *methods: str) -> list[dict[str, Any]]:
        """Return what happened so far in this tab, by the names of events."""
        mine = (event for event in self._browser.events if event.get("sessionId") == self._session)
        return [event["params"] for event in mine if event["method"] in methods]

    def complaints(self) -> list[str]:
        """Return what was said on the console, and errors that nobody caught."""
        self.run("0")
        names = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event) for event in self.events(*names)]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
