"""Every bench notebook by itself, and all ratios in data/bench.json; the exit code says whether every bound holds.

python tools/bench.py             run them all, one after another (an hour or two on a quiet machine)
python tools/bench.py --stored    what data/bench.json holds, run nothing
python tools/bench.py 02_engines                                       one again; its rows replace the old ones
python tools/bench.py 02_engines -p repetitions 2 --to trial.json     a trial of one
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from steer_nb.dev.bench import main

if __name__ == '__main__':
    sys.exit(main())
