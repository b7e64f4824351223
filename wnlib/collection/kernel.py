"""One notebook in one kernel: what the runner's child process does.

The child is told apart from all other processes by the staging folder in its environment (WNLIB_FIGURES), and so is
every process it starts. It ends when its standard input does: the runner holds the other end, however it ends.
"""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

from wnlib.collection.jobs import ROOT


def execute(task):
    """The child's whole work: execute one notebook in the staging folder and say on its stdin, a socket, how it went.

    ``task`` is the JSON text of a Job with ``staging``, ``scratch`` and ``limit`` (seconds a cell may run).
    """
    import resource
    import threading

    task, ending = json.loads(task), threading.Lock()
    staging, managers, cells = Path(task["staging"]), [], []
    threading.Thread(target=_die_with_parent, args=(task["staging"], task["scratch"], ending), daemon=True).start()
    if not any(Path(os.environ["MPLCONFIGDIR"]).glob("fontlist*")):
        import matplotlib.font_manager  # noqa: F401  makes it, which it may remark on: not in the executed copy
    # jsonschema would compile a grammar of addresses on import, which takes longer than all the rest, and load a
    # library of durations: formats that no notebook has.
    sys.modules |= dict.fromkeys(["rfc3987_syntax", "isoduration"])
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    def count(cell, cell_index):
        cells.append(cell)
        (staging / "cell").write_text(str(len(cells)))

    start = time.perf_counter()
    try:
        notebook = _papermill(task, managers, count)
        skipped = sum(cell.cell_type == "code" and cell.source.strip() != "" for cell in notebook.cells) - len(cells)
        if skipped:  # papermill takes sys.exit() for success
            raise RuntimeError(f"ended the notebook, {skipped} cells early")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        outcome = {"seconds": time.perf_counter() - start, "peak_gib": peak / 2**30}
        _write_executed(notebook, staging, task["stem"])
    except PapermillExecutionError as error:
        outcome = {"error": f"raised {error.ename}: {error.evalue}"[:300]}
    except CellTimeoutError:
        outcome = {"error": f"ran past its limit of {task['limit']} s; raise it with --cell-timeout"}
    except DeadKernelError:
        status = managers[-1].provisioner.process.returncode
        outcome = {"error": f"lost its kernel, which {killed(-status) if status < 0 else f'exited ({status})'}"}
    except Exception as error:
        outcome = {"error": f"{type(error).__name__}: {error}"[:300]}
    with ending:  # if our parent ends now, so do we, but not before all is cleared up
        os.write(0, json.dumps(outcome).encode())


def killed(number):
    """Say that a process was killed by that signal."""
    return f"was killed (signal {number}{'; out of memory?' if number == signal.SIGKILL else ''})"


def _papermill(task, managers, on_cell):
    """Execute the notebook, trying thrice to start its kernel; each start appends its manager."""
    import papermill
    from ipykernel.kernelspec import write_kernel_spec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets.config import Config

    class Manager(AsyncKernelManager):  # papermill keeps it to itself; we must ask it what a kernel died of
        def __init__(self, **options):
            super().__init__(**options)
            managers.append(self)

    started, shown = [], False
    if "WNLIB_TERMINAL" in os.environ:
        from wnlib import progress

        shown = {"desc": task["stem"], "file": progress.stream(), "leave": False, "disable": None}
    write_kernel_spec(f"{task['scratch']}/jupyter/kernels/python3")
    for attempt in range(3):
        # Parallel starts race for TCP ports; sockets in a folder of our own cannot be raced for.
        connection = {"transport": "ipc", "connection_file": f"{task['scratch']}/kernel{attempt}.json"}
        try:
            return papermill.execute_notebook(
                f"{task['stem']}.ipynb",
                f"{task['staging']}/partial.ipynb".replace("{", "{{").replace("}", "}}"),  # it formats paths
                task["overrides"],
                kernel_name="python3",
                language="python",
                progress_bar=shown,
                autosave_cell_every=2,
                execution_timeout=task["limit"],
                iopub_timeout=60,
                force_raise_errors=True,
                on_notebook_start=lambda notebook: started.append(notebook),
                on_cell_execute=on_cell,
                kernel_manager_class=Manager,
                config=Config(ConnectionFileMixin=connection),
            )
        except Exception:
            if started or attempt == 2:
                raise


def _die_with_parent(mark, scratch, ending):
    """Wait for the lifeline to end; then take the kernel and everything else of this run along."""
    os.read(0, 1)
    ending.acquire()  # once its kernel is gone, the other thread would end this process
    kill_marked(mark)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


def _write_executed(notebook, staging, stem):
    """Write the executed notebook without anything that depends on the machine, the hour or chance.

    Under the title, which states the claim, it gets the figure: read from the top, as on a web page, the copy shows
    what it is about before how it is computed.
    """
    import nbformat

    def clean(text):
        text = text.replace(str(staging), "figures").replace(str(ROOT), ".")
        return re.sub(r"\bat 0x[0-9a-f]{6,}", "at 0x...", text)

    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.tags:
            cell.id = "injected-parameters"
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.tags else {}
        merged = []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)
            data.update({mime: clean(text) for mime, text in data.items() if mime.startswith("text/")})
            last = merged[-1] if merged else {}
            if output.output_type == "stream" == last.get("output_type") and output.name == last["name"]:
                last["text"] += output.text  # where a stream is cut into messages is chance
            else:
                merged.append(output)
        if cell.cell_type == "code":
            cell.outputs = merged
            for output in merged:
                if output.output_type == "stream":
                    output.text = clean(output.text)
    if notebook.cells[0].cell_type == "markdown":
        figure = nbformat.v4.new_markdown_cell(f"![The figure of this notebook](../{stem}.png)", id="figure-first")
        notebook.cells.insert(1, figure)
    nbformat.write(nbformat.from_dict(notebook), staging / "executed.ipynb")


def kill_marked(mark):
    """Kill every process but this one whose environment carries the mark, orphans of a dead kernel included."""
    import psutil

    while True:
        marked = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("WNLIB_FIGURES") == mark and process.pid != os.getpid():
                    process.kill()
                    marked.append(process)
            except psutil.Error:
                continue
        if not marked:
            return
        psutil.wait_procs(marked, timeout=1)
