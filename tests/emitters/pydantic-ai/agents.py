# Agents written with pydantic-ai, whose models run offline.
#
# Run as `opentelemetry-instrument python agents.py`, so that all settings come from the environment.
# Prints the tokens that pydantic-ai counts for the coordinator and for the researcher.

import json

from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel

Agent.instrument_all()

researcher = Agent(
    TestModel(custom_output_text='Lisbon is mild in May.', model_name='small'),
    name='researcher',
    system_prompt='You know the climate.',
)


@researcher.tool_plain
def climate(city: str) -> dict[str, int]:
    """Return the climate of a city."""
    return {'high': 22, 'low': 14}


coordinator = Agent(
    TestModel(custom_output_text='Pack a light jacket.', model_name='large'),
    name='coordinator',
    instructions='You plan trips.',
)

tokens = {}


@coordinator.tool_plain
def currency(country: str) -> str:
    """Return the currency of a country."""
    return 'euro'


@coordinator.tool_plain
async def research(topic: str) -> str:
    """Ask the researcher."""
    result = await researcher.run('Tell me about the climate of Lisbon.')
    tokens['researcher'] = count(result)
    return result.output


def unavailable(messages, info):
    raise RuntimeError('the model is unavailable')


unlucky = Agent(FunctionModel(unavailable, model_name='unavailable'), name='unlucky')

clumsy = Agent(TestModel(call_tools=['break_it']), name='clumsy')


@clumsy.tool_plain
def break_it() -> str:
    """Fail."""
    raise ValueError('the tool is broken')


def count(result):
    usage = result.usage
    return {'calls': usage.requests, 'input': usage.input_tokens, 'output': usage.output_tokens}


result = coordinator.run_sync('What do I need for Lisbon in May?')
tokens['coordinator'] = count(result)
for agent in [unlucky, clumsy]:
    try:
        agent.run_sync('Try it.')
    except (RuntimeError, ValueError):
        pass
print(json.dumps(tokens))
