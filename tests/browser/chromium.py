"""Load a page in a headless Chromium and print, as JSON, what it does: python chromium.py PAGE WIDTH PICTURE SCRIPT."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ |= {"QT_QPA_PLATFORM": "offscreen", "QTWEBENGINE_DISABLE_SANDBOX": "1",
               "QTWEBENGINE_CHROMIUM_FLAGS": "--disable-gpu"}  # fmt: skip

from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineCore import QWebEngineUrlRequestInterceptor
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication


class Ledger(QWebEngineUrlRequestInterceptor):
    """Everything that the page asks for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def interceptRequest(self, info):  # noqa: N802 - Qt's name
        self.asked.append(info.requestUrl().toString())


def main(page: str, width: str, picture: str, script: str) -> None:
    application = QApplication(sys.argv[:1])
    view, ledger, console = QWebEngineView(), Ledger(), []
    view.resize(int(width), 1400)
    view.page().profile().setUrlRequestInterceptor(ledger)
    view.page().javaScriptConsoleMessage = lambda _level, message, *_: console.append(message)

    def tell(value):
        found = {"value": json.loads(value), "asked": ledger.asked, "console": console}
        sys.stdout.write(f"{json.dumps(found)}\n")
        application.quit()

    def look():
        view.grab().save(picture)
        view.page().runJavaScript(f"JSON.stringify({script})", tell)

    view.loadFinished.connect(lambda _: QTimer.singleShot(500, look))
    view.load(QUrl.fromLocalFile(str(Path(page).resolve())))
    view.show()
    QTimer.singleShot(60_000, application.quit)
    application.exec()
    # The page's profile would be taken down after the application.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
