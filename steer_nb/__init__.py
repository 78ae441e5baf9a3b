"""A notebook lab for linear directions inside language models: find them, steer with them, test the claim."""

__version__ = "0.1.0"

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers; at run time names are looked up when first used
    from .core import RunError as RunError, SteerError as SteerError
    from .data.benchmarks import load_task as load_task, task_names as task_names
    from .data.choices import items_table as items_table, split_items as split_items
    from .evals.scoring import predictions as predictions, score as score
    from .evals.sweeps import sweep as sweep
    from .experiments.jobs import list_jobs as list_jobs, run_job as run_job
    from .methods.directions import Direction as Direction, fit_direction as fit_direction
    from .methods.directions import project as project, random_directions as random_directions
    from .methods.directions import shuffled_signs as shuffled_signs, steer as steer
    from .models.doctor import doctor as doctor
    from .models.edits import edit as edit
    from .models.engines import edited as edited
    from .models.lm import LM as LM, at_steps as at_steps
    from .models.loading import load_model as load_model
    from .models.looped.ouro import OuroForCausalLM as OuroForCausalLM
    from .models.looped.ouro_config import OuroConfig as OuroConfig
    from .models.looped.raven import RavenForCausalLM as RavenForCausalLM
    from .models.looped.raven_config import RavenConfig as RavenConfig
    from .models.looped.recurrence import RecurrentCache as RecurrentCache
    from .models.tracing import capture as capture, generate as generate
    from .models.tracing import logit_lens as logit_lens, moments as moments, patch as patch
    from .stats import paired_effect as paired_effect

_HOME = {  # public name -> its module
    'SteerError': 'core',
    'RunError': 'core',
    'load_model': 'models.loading',
    'LM': 'models.lm',
    'at_steps': 'models.lm',
    'doctor': 'models.doctor',
    'edit': 'models.edits',
    'edited': 'models.engines',
    'capture': 'models.tracing',
    'patch': 'models.tracing',
    'moments': 'models.tracing',
    'generate': 'models.tracing',
    'logit_lens': 'models.tracing',
    'load_task': 'data.benchmarks',
    'task_names': 'data.benchmarks',
    'items_table': 'data.choices',
    'split_items': 'data.choices',
    'Direction': 'methods.directions',
    'fit_direction': 'methods.directions',
    'steer': 'methods.directions',
    'project': 'methods.directions',
    'random_directions': 'methods.directions',
    'shuffled_signs': 'methods.directions',
    'score': 'evals.scoring',
    'predictions': 'evals.scoring',
    'sweep': 'evals.sweeps',
    'paired_effect': 'stats',
    'RavenConfig': 'models.looped.raven_config',
    'RavenForCausalLM': 'models.looped.raven',
    'RecurrentCache': 'models.looped.recurrence',
    'OuroConfig': 'models.looped.ouro_config',
    'OuroForCausalLM': 'models.looped.ouro',
    'run_job': 'experiments.jobs',
    'list_jobs': 'experiments.jobs',
}
_RENAMED = {'picks': 'predictions'}  # old name -> new one, for one release
__all__ = list(_HOME)


def __getattr__(name):
    "A public name, imported when it is first used: `import steer_nb` stays cheap."
    from importlib import import_module

    if name in _RENAMED:
        from warnings import warn

        new = _RENAMED[name]
        warn(f'steer_nb.{name} is now steer_nb.{new}', DeprecationWarning, stacklevel=2)
        return __getattr__(new)
    if name not in _HOME:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOME[name]}'), name)


def __dir__():
    return sorted([*globals(), *__all__])


_AUTO = 'transformers.models.auto.configuration_auto'


def _register_looped():
    "Importing the configurations registers them with transformers' Auto classes."
    from .models.looped import ouro_config, raven_config  # noqa: F401


class _Promise:
    "Waits for transformers to load its table of configurations, and adds ours: importing transformers here would cost seconds."

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != _AUTO:
            return None
        import importlib.util
        import sys

        sys.meta_path.remove(_Promise)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            _register_looped()

        spec.loader.exec_module = exec_module
        return spec


def _register():
    import sys

    if _AUTO in sys.modules:
        _register_looped()
    else:
        sys.meta_path.insert(0, _Promise)


_register()
