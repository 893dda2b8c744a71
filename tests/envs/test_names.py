"""Names of coordinates, against a model whose names are known."""

import mujoco
import pytest

from envs.mujoco import names

MODEL = """
<mujoco>
  <worldbody>
    <body name="torso">
      <freejoint/>
      <geom size="0.1"/>
      <body><joint name="left_hip" type="hinge"/><geom size="0.1"/>
        <body name="hand"><joint type="ball"/><geom size="0.1"/></body>
      </body>
      <body name="foot"><joint type="slide"/><joint type="slide" axis="1 0 0"/><geom size="0.1"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="left_hip"/>
    <general name="arm_muscle" joint="left_hip" dyntype="integrator"/>
  </actuator>
</mujoco>
"""


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(MODEL)


def test_every_coordinate_has_a_name_of_its_own(model):
    found = names.of_state(model)
    turns = ["rotation x", "rotation y", "rotation z"]
    positions = [
        *(f"torso {part}" for part in ("x", "y", "z", *turns)),
        "left hip",
        *(f"hand {part}" for part in turns),
        "foot 1",
        "foot 2",
    ]
    assert list(found) == [
        *positions,
        *(f"{name} velocity" for name in positions),
        "arm muscle activation",
    ]
    assert len(found) == 2 * model.nv + model.na


def test_numbers_that_are_names_already_are_skipped():
    """A body `leg` with two joints without names, a joint `leg_2`, and one called like a speed."""
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><worldbody>
          <body name="leg"><joint/><joint axis="1 0 0"/><geom size="0.1"/></body>
          <body><joint name="leg_2"/><geom size="0.1"/></body>
          <body><joint name="leg_2_velocity"/><geom size="0.1"/></body>
        </worldbody></mujoco>"""
    )
    found = names.of_state(model)
    assert found[:3] == ("leg 1", "leg 3", "leg 2")
    assert len(set(found)) == len(found) == 8


def test_actions_are_called_after_what_they_move(model):
    assert names.of_actions(model) == ("left hip", "arm muscle")
