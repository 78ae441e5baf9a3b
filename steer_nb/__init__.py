"""A notebook lab for linear directions inside language models: find them, steer with them, test the claim."""

__version__ = "0.1.0"

_home = dict(
    SteerError='core', RunError='core',
    load_model='models.loading', LM='models.lm', at_steps='models.lm', doctor='models.doctor',
    edit='models.edits', edited='models.engines',
    capture='models.tracing', moments='models.tracing', generate='models.tracing', logit_lens='models.tracing',
    load_task='data.benchmarks', task_names='data.benchmarks', items_table='data.choices', split_items='data.choices',
    Direction='methods.directions', fit_direction='methods.directions', steer='methods.directions', project='methods.directions',
    random_directions='methods.directions', shuffled_signs='methods.directions',
    score='evals.scoring', picks='evals.scoring', sweep='evals.sweeps', paired_effect='stats',
    RavenConfig='models.looped.raven_config', RavenForCausalLM='models.looped.raven', RecurrentCache='models.looped.recurrence',
    OuroConfig='models.looped.ouro_config', OuroForCausalLM='models.looped.ouro',
    run_job='experiments.jobs', list_jobs='experiments.jobs',
)
__all__ = list(_home)


def __getattr__(name):  # names are looked up when first used, so that `import steer_nb` stays cheap
    if name not in _home: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    return getattr(import_module(f'{__name__}.{_home[name]}'), name)


def __dir__(): return sorted([*globals(), *__all__])


_auto = 'transformers.models.auto.configuration_auto'

class _Promise:
    "Waits for transformers to load its table of configurations, and adds ours: importing transformers here would cost seconds."
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != _auto: return None
        import importlib.util, sys
        sys.meta_path.remove(_Promise)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            import steer_nb.models.looped.ouro_config, steer_nb.models.looped.raven_config
        spec.loader.exec_module = exec_module
        return spec

def _register():
    import sys
    if _auto in sys.modules: import steer_nb.models.looped.ouro_config, steer_nb.models.looped.raven_config
    else: sys.meta_path.insert(0, _Promise)

_register()
